// Helpers around real Couchbase Lite: a driver process (cbl/README.md has its protocol) as promises and events. The driver
// is the one in cbl/, or the command in $CBL_DRIVER; it gets an empty directory as its argument.
import { spawn } from 'node:child_process'
import { EventEmitter } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const PATIENCE = 120_000 // ms; a test that waits this long has failed

const OWN = fileURLToPath(new URL('cbl/driver.sh', import.meta.url))

// startClient starts a driver: the chosen one, or with { own: true } the one in cbl/ whatever is chosen.
export async function startClient ({ own = false } = {}) {
  const command = (!own && process.env.CBL_DRIVER) || OWN
  const directory = mkdtempSync(join(tmpdir(), 'tidegate-cbl-'))
  const client = new Client(spawn(command, [directory], { stdio: ['pipe', 'pipe', 'inherit'] }), directory)
  client.hello = await client.call('hello')
  return client
}

// Client is one driver process. It emits 'event' with every event line.
class Client extends EventEmitter {
  #child
  #directory
  #waiting = new Map()
  #last = 0

  constructor (child, directory) {
    super()
    this.setMaxListeners(100)
    this.#child = child
    this.#directory = directory
    createInterface({ input: child.stdout }).on('line', line => this.#take(JSON.parse(line)))
    child.once('error', err => this.#fail(err))
    child.once('exit', code => this.#fail(new Error(`the driver ended with ${code}`)))
    child.stdin.on('error', err => this.#fail(err))
  }

  // call resolves with the answer to a command and rejects with a DriverError.
  call (cmd, members = {}) {
    const id = ++this.#last
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no answer within ${PATIENCE} ms: ${cmd} ${JSON.stringify(members)}`)), PATIENCE)
      this.#waiting.set(id, { cmd, timer, resolve, reject })
      this.#child.stdin.write(JSON.stringify({ id, cmd, ...members }) + '\n')
    })
  }

  async open (name) {
    await this.call('open', { database: name })
    return new Database(this, name)
  }

  // stop ends the process, by force if it doesn't end with its input, and removes what it stored.
  async stop () {
    const child = this.#child
    if (child.exitCode === null && child.signalCode === null) {
      const exit = new Promise(resolve => child.once('exit', resolve))
      const timer = setTimeout(() => child.kill('SIGKILL'), 10_000)
      child.stdin.end()
      await exit
      clearTimeout(timer)
    }
    rmSync(this.#directory, { recursive: true, force: true })
  }

  #take (line) {
    if (line.event) return this.emit('event', line)
    const { cmd, timer, resolve, reject } = this.#waiting.get(line.id)
    this.#waiting.delete(line.id)
    clearTimeout(timer)
    if (line.ok) resolve(line)
    else reject(new DriverError(cmd, line.error))
  }

  #fail (err) {
    for (const { timer, reject } of this.#waiting.values()) {
      clearTimeout(timer)
      reject(err)
    }
    this.#waiting.clear()
  }
}

export class DriverError extends Error {
  constructor (cmd, error) {
    super(`${cmd}: ${error.domain} ${error.code} ${error.message}`)
    Object.assign(this, { domain: error.domain, code: error.code })
  }
}

// Database is one open database, or one named collection of it, of a client.
class Database {
  #where
  #replicators = 0

  constructor (client, name, collection = {}) {
    this.client = client
    this.name = name
    this.scope = collection.scope
    this.collectionName = collection.collection
    this.#where = { database: name, ...collection }
  }

  #call (cmd, members) { return this.client.call(cmd, { ...this.#where, ...members }) }

  // collection gives the same database seen as one of its named collections.
  collection (scope, collection) { return new Database(this.client, this.name, { scope, collection }) }

  put (doc, body) { return this.#call('put', { doc, body }) }
  patch (doc, body) { return this.#call('patch', { doc, body }) }
  putMany (members) { return this.#call('putMany', members) }
  delete (doc) { return this.#call('delete', { doc }) }
  purge (doc) { return this.#call('purge', { doc }) }
  attach (doc, property, seed, length, contentType) { return this.#call('attach', { doc, property, seed, length, contentType }) }
  blob (doc, ...path) { return this.#call('blob', { doc, path }) }
  close () { return this.#call('close') }

  // get returns the body of a document, or null where there is none.
  async get (doc) {
    const { found, body } = await this.#call('get', { doc })
    return found ? body : null
  }

  async rev (doc) { return (await this.#call('get', { doc })).rev }
  async count () { return (await this.#call('count')).count }
  async ids () { return (await this.#call('ids')).ids }

  // digest returns { count, digest } over all documents; equal for databases that hold the same.
  async digest () {
    const { count, digest } = await this.#call('digest')
    return { count, digest }
  }

  async replicator (url, user, members = {}) {
    const replicator = `${this.name}-${++this.#replicators}`
    await this.#call('replicator', { replicator, url, auth: user, ...members })
    return new Replicator(this.client, replicator)
  }

  // until looks at each event of the client until check holds, and once before.
  until (check, what) { return until(this.client, check, what) }
}

// until calls check now and after each event of the client, one call at a time, until it returns something true.
export function until (client, check, what, ms = PATIENCE) {
  return new Promise((resolve, reject) => {
    let looking = false
    let again = false
    const stop = (settle, value) => { clearTimeout(timer); client.off('event', look); settle(value) }
    const timer = setTimeout(() => stop(reject, new Error(`not within ${ms} ms: ${what}`)), ms)
    const look = async () => {
      if (looking) { again = true; return }
      looking = true
      try {
        do {
          again = false
          const value = await check()
          if (value) return stop(resolve, value)
        } while (again)
      } catch (err) {
        stop(reject, err)
      } finally {
        looking = false
      }
    }
    client.on('event', look)
    look()
  })
}

// Replicator is one replicator of a client, with what its events have told since the last start.
class Replicator {
  status = null // the last status event
  seen = [] // the activities of this run, in order
  pushed = [] // documents as the events tell them, with errors
  pulled = []
  conflicts = [] // IDs of documents that a resolver of the driver was asked about
  #client
  #name

  constructor (client, name) {
    this.#client = client
    this.#name = name
    client.on('event', event => { if (event.replicator === name) this.#take(event) })
  }

  #take (event) {
    if (event.event === 'status') {
      this.status = event
      this.seen.push(event.activity)
    } else if (event.event === 'documents') {
      for (const doc of event.documents) (event.push ? this.pushed : this.pulled).push(doc)
    } else if (event.event === 'conflict') {
      this.conflicts.push(event.doc)
    }
  }

  async start (members = {}) {
    this.status = null
    this.seen = []
    this.pushed = []
    this.pulled = []
    this.conflicts = []
    await this.#client.call('start', { replicator: this.#name, ...members })
  }

  async pending () { return (await this.#client.call('pending', { replicator: this.#name })).ids }

  // errors lists the documents that failed, as { doc, error } each.
  get errors () { return [...this.pushed, ...this.pulled].filter(doc => doc.error) }

  // reaches waits for the replicator to be in one of the activities: stopped, offline, connecting, idle, busy. One that has
  // stopped gets nowhere else.
  async reaches (...activities) {
    const there = () => {
      const { activity, error } = this.status ?? {}
      if (activities.includes(activity)) return true
      if (activity === 'stopped') throw new Error(`${this.#name} stopped: ${JSON.stringify(error)}`)
      return false
    }
    await until(this.#client, there, `${this.#name} is ${activities.join(' or ')}; it is ${this.status?.activity}`)
    return this.status
  }

  // run starts, and resolves when the replicator has stopped by itself without an error.
  async run (members) {
    await this.start(members)
    const status = await this.reaches('stopped')
    if (status.error) throw new DriverError(this.#name, status.error)
    return this
  }

  // fails starts, and resolves with the error that the replicator stops with.
  async fails () {
    await this.start()
    const { error } = await this.reaches('stopped')
    if (!error) throw new Error(`${this.#name} stopped without an error`)
    return error
  }

  async stop () {
    if (this.status?.activity === 'stopped') return
    await this.#client.call('stop', { replicator: this.#name })
    await this.reaches('stopped')
  }
}

// generated makes the bytes that `attach` makes from a seed.
export function generated (seed, length) {
  const bytes = Buffer.alloc(length)
  let state = seed
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0
    bytes[i] = state >>> 24
  }
  return bytes
}

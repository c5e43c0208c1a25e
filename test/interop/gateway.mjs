// Starts a real gateway for a test file: the binary in $TIDEGATE_BIN (../../bin/tidegate by default), an empty
// data directory, free ports. Everything is gone when the test file ends. A test may kill it and start it again on the same data
// and ports.
import { execFile, spawn } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

export const PASSWORD = 'interop-password'

export async function startGateway () {
  const bin = process.env.TIDEGATE_BIN || fileURLToPath(new URL('../../bin/tidegate', import.meta.url))
  const data = mkdtempSync(join(tmpdir(), 'tidegate-interop-'))
  const log = []
  const launch = ({ public: pub, admin, metrics }) => {
    const args = ['serve', '--data', data, '--public', pub, '--admin', admin, '--metrics', metrics, '--log-format', 'json']
    return spawn(bin, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  }
  const ports = [await reservePort(), await reservePort(), await reservePort()]
  let child = launch({ public: ports[0].address, admin: ports[1].address, metrics: ports[2].address })
  const addresses = await listening(child, log)
  const gateway = {
    public: `http://${addresses.public}`,
    admin: `http://${addresses.admin}`,
    log,
    // admin makes one admin request and fails the test on any status that isn't expected.
    async admin_ (method, path, body, want = [200, 201]) {
      const res = await fetch(gateway.admin + path, {
        method,
        headers: { 'content-type': 'application/json' },
        body: body === undefined ? undefined : JSON.stringify(body)
      })
      const text = await res.text()
      if (!want.includes(res.status)) throw new Error(`${method} ${path}: ${res.status} ${text}`)
      return text ? JSON.parse(text) : null
    },
    createDatabase: (name, config) => gateway.admin_('PUT', `/${name}/`, config),
    createUser: (db, name, channels, more = {}) =>
      gateway.admin_('PUT', `/${db}/_user/${name}`, { name, password: PASSWORD, admin_channels: channels, ...more }),
    url: (db, user) => `http://${user}:${PASSWORD}@${addresses.public}/${db}`,
    // ws is the address of a database for Couchbase Lite.
    ws: db => `ws://${addresses.public}/${db}`,
    // kill ends the process without a chance to tidy up.
    kill: () => ended('SIGKILL'),
    async restart () {
      child = launch(addresses)
      await listening(child, log)
    },
    // loses has the gateway forget what tail does: it is restored from a backup of before.
    async loses (tail) {
      const scratch = mkdtempSync(join(tmpdir(), 'tidegate-backup-'))
      try {
        await run(bin, 'backup', join(scratch, 'backup'), '--admin', gateway.admin)
        await tail()
        await gateway.kill()
        rmSync(data, { recursive: true })
        await run(bin, 'restore', join(scratch, 'backup'), '--data', data)
        await gateway.restart()
      } finally {
        rmSync(scratch, { recursive: true })
      }
    },
    // age has a gateway that has ended believe that the sequence (its last one, if none is given) was the last one days ago.
    age: (db, days, seq = 0) => run('go', 'run', './aged', '-data', data, '-db', db, '-days', String(days), '-seq', String(seq)),
    async stop () {
      await ended('SIGTERM')
      for (const port of ports) port.release()
      rmSync(data, { recursive: true, force: true })
    }
  }
  async function ended (signal) {
    if (child.exitCode !== null || child.signalCode !== null) return
    const exit = new Promise(resolve => child.once('exit', resolve))
    child.kill(signal)
    await exit
  }
  return gateway
}

// reservePort finds a port that is nobody else's while the gateway is dead: internal/testkit says how, and why.
async function reservePort () {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 20_000)
    const held = createSocket('udp4')
    const listener = createServer()
    try {
      await bound(held, 'listening', () => held.bind({ address: '127.0.0.1', port, exclusive: true }))
      await bound(listener, 'listening', () => listener.listen(port, '127.0.0.1'))
      await new Promise(resolve => listener.close(resolve))
      held.unref() // a test file that forgets to stop its gateway ends all the same
      return { address: `127.0.0.1:${port}`, release: () => held.close() }
    } catch (err) {
      if (err.code !== 'EADDRINUSE') throw err
      try { held.close() } catch { } // it may not be open
    }
  }
}

// bound does something and resolves with an event, or fails with the first error.
function bound (emitter, event, act) {
  return new Promise((resolve, reject) => {
    emitter.once(event, resolve).once('error', reject)
    act()
  })
}

// run runs a command in this folder and resolves with what it printed.
async function run (command, ...args) {
  const { stdout } = await promisify(execFile)(command, args, { cwd: fileURLToPath(new URL('.', import.meta.url)) })
  return stdout
}

// listening waits for the three "listening" lines of the log.
function listening (child, log) {
  return new Promise((resolve, reject) => {
    const found = {}
    const take = line => {
      log.push(line)
      let entry
      try { entry = JSON.parse(line) } catch { return }
      if (entry.msg === 'listening') found[entry.listener] = entry.address
      if (found.public && found.admin && found.metrics) resolve(found)
    }
    for (const stream of [child.stdout, child.stderr]) createInterface({ input: stream }).on('line', take)
    child.once('error', reject)
    child.once('exit', code => reject(new Error(`the gateway ended with ${code}:\n${log.join('\n')}`)))
  })
}

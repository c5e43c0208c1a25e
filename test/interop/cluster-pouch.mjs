// A PouchDB that stays in step with one node of a cluster, whatever happens to that, and writes documents of its own. test/chaos drives it:
// each line on its standard input is a command, answered by a line of JSON.
//
//	node cluster-pouch.mjs NAME URL
//	quiet    writes no more; how many writes it made
//	state    how the replications fare: their states, and the requests that have no answer yet
//	dump     every document that is not deleted: revision and conflicts
import { createInterface } from 'node:readline'
import { follow, local, remoteBy } from './pouch.mjs'

// PouchDB leaves some rejections of requests that were cut to nobody; node would end for the first of them.
process.on('unhandledRejection', err => console.error('left unhandled', String(err), err?.stack))

const [name, url] = process.argv.slice(2)
const db = local()
let sync
let syncs = 0
const asked = new Map() // requests that have no answer, or are being read, and since when
const told = { push: {}, pull: {} } // what was last heard of each replication
let requests = 0

async function ask (fetch, path, options) {
  const n = ++requests
  const what = `${options?.method ?? 'GET'} ${path.replace(/^.*@/, '').slice(0, 200)}`
  asked.set(n, { what, since: Date.now(), phase: 'no answer' })
  try {
    const res = await fetch(path, options)
    asked.set(n, { what, since: Date.now(), phase: `status ${res.status}, not read` })
    for (const read of ['json', 'text', 'arrayBuffer', 'buffer', 'blob']) {
      const whole = res[read].bind(res)
      res[read] = async () => { try { return await whole() } finally { asked.delete(n) } }
    }
    return res
  } catch (err) {
    asked.delete(n)
    throw err
  }
}

const stop = follow(db, remoteBy(url, ask), {
  batch_size: 200,
  wait: 500,
  begun: s => {
    syncs++
    sync = s
    for (const direction of ['push', 'pull']) {
      for (const event of ['paused', 'active', 'checkpoint', 'error', 'complete']) {
        sync[direction].on(event, x => {
          told[direction][event] = `${new Date().toISOString()} ${x?.message ? String(x.stack ?? x.message) : JSON.stringify(x)}`
        })
      }
    }
    sync.on('denied', err => console.error('denied', JSON.stringify(err)))
  }
})

let writes = 0
const revs = {}
async function write () {
  const own = `${name}-own-${writes % 15}`
  const id = writes % 3 ? `${name}-${writes}` : own
  const doc = { _id: id, n: writes, by: name, channels: [`c${writes % 4}`] }
  if (revs[id]) doc._rev = revs[id]
  writes++
  revs[id] = (await db.put(doc)).rev
}
let busy = Promise.resolve()
const writing = setInterval(() => { busy = busy.then(write).catch(err => console.error('write', String(err))) }, 150)

const commands = {
  async quiet () { clearInterval(writing); await busy; return writes },
  async state () {
    return { syncs, push: sync.push.state, pull: sync.pull.state, told, requests, asked: [...asked.values()].map(a => ({ ...a, since: new Date(a.since) })) }
  },
  async dump () {
    const all = await db.allDocs({ include_docs: true, conflicts: true })
    return Object.fromEntries(all.rows.map(({ id, doc }) => [id, { rev: doc._rev, conflicts: (doc._conflicts ?? []).sort() }]))
  }
}
for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await commands[line]()))
}
stop()
process.exit(0)

// Helpers around real PouchDB.
import { createRequire } from 'node:module'
import { randomUUID } from 'node:crypto'
import assert from 'node:assert/strict'

const require = createRequire(import.meta.url)
const PouchDB = require('pouchdb')
PouchDB.plugin(require('pouchdb-adapter-memory'))

export const local = () => new PouchDB(`local-${randomUUID()}`, { adapter: 'memory' })
// remote is a database at an address. Each answer is shown to watch, if given, with the address that was asked.
export const remote = (url, watch = () => {}) => remoteBy(url, async (fetch, path, options) => {
  const res = await fetch(path, options)
  watch(path, res)
  return res
})
// remoteBy is a database at an address whose requests ask makes, in the place of the fetch that it is given.
export const remoteBy = (url, ask) => new PouchDB(url, { skip_setup: false, fetch: (path, options) => ask(PouchDB.fetch, String(path), options) })

// follow keeps a database in step with a server in the way that docs/pouchdb.md advises for bad networks, until the function that it returns is called. begun
// is shown each sync, failed each error.
export function follow (db, server, { wait = 1000, begun = () => {}, failed = () => {}, ...options } = {}) {
  let ended = false
  let sync
  const begin = () => {
    sync = db.sync(server, { ...options, live: true, retry: false })
    sync.on('error', err => {
      sync.cancel()
      failed(err)
      if (!ended) setTimeout(begin, wait)
    })
    begun(sync)
  }
  begin()
  return () => { ended = true; sync.cancel() }
}

// snapshot reads everything a replica knows: each document with its winner, conflicts and attachments.
export async function snapshot (db, { attachments = false } = {}) {
  const all = await db.allDocs({ include_docs: true, conflicts: true, attachments })
  const docs = {}
  for (const row of all.rows) {
    const doc = row.doc
    if (doc._conflicts) doc._conflicts.sort()
    for (const att of Object.values(doc._attachments ?? {})) {
      delete att.digest // md5 in PouchDB, sha1 in the gateway; opaque to clients
      delete att.revpos // counted by each replica on its own
    }
    docs[row.id] = doc
  }
  return docs
}

export async function assertSame (a, b, options) {
  const [x, y] = await Promise.all([snapshot(a, options), snapshot(b, options)])
  assert.deepEqual(Object.keys(x).sort(), Object.keys(y).sort())
  for (const id of Object.keys(x)) assert.deepEqual(x[id], y[id], id)
  return x
}

// until calls check at each change of the database until it holds.
export function until (db, check, what, ms = 60_000) {
  return new Promise((resolve, reject) => {
    const feed = db.changes({ live: true, since: 'now' })
    const stop = (settle, value) => { clearTimeout(timer); feed.cancel(); settle(value) }
    const timer = setTimeout(() => stop(reject, new Error(`not within ${ms} ms: ${what}`)), ms)
    const look = async () => {
      try { if (await check()) stop(resolve) } catch (err) { stop(reject, err) }
    }
    feed.on('change', look).on('error', err => stop(reject, err))
    look()
  })
}

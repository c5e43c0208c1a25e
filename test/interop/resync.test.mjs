// An online resync while PouchDB clients replicate: nothing fails, and what a user gains by the new function arrives.
import { test, before, after } from 'node:test'
import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { startGateway } from './gateway.mjs'
import { local, remote, until } from './pouch.mjs'

let gateway
before(async () => { gateway = await startGateway() })
after(() => gateway?.stop())

const route = member => `function (doc) { channel(doc.${member}); }`
const channels = n => ({ before: `x${n % 4}`, after: `x${(n * 7 + 1) % 4}` })

// ids are those of the documents that a condition holds for.
async function ids (db, holds = () => true) {
  const all = await db.allDocs({ include_docs: true })
  return all.rows.filter(row => holds(row.doc)).map(row => row.id).sort()
}

test('PouchDB goes on through an online resync and gets what it gains', async () => {
  await gateway.createDatabase('db', { sync: route('before') })
  await gateway.createUser('db', 'reader', ['x0'])
  await gateway.createUser('db', 'writer', ['*'])
  const writer = local()
  const documents = 3000
  await writer.bulkDocs(Array.from({ length: documents }, (_, n) => ({ _id: `doc-${String(n).padStart(5, '0')}`, ...channels(n) })))
  await writer.replicate.to(remote(gateway.url('db', 'writer')), { batch_size: 500 })

  const reader = local()
  const problems = []
  const watch = (name, replication) => replication
    .on('error', err => problems.push(`${name}: ${JSON.stringify(err)}`))
    .on('denied', err => problems.push(`${name} denied: ${JSON.stringify(err)}`))
    .on('paused', err => { if (err) problems.push(`${name} paused: ${JSON.stringify(err)}`) })
  const live = [
    watch('pull', reader.replicate.from(remote(gateway.url('db', 'reader')), { live: true })),
    watch('push', writer.replicate.to(remote(gateway.url('db', 'writer')), { live: true }))
  ]
  const first = await ids(writer, doc => doc.before === 'x0')
  await until(reader, async () => (await reader.info()).doc_count >= first.length, 'the first pull')

  const started = await gateway.admin_('POST', '/db/_resync?online=true', { sync_function: route('after') })
  assert.equal(started.mode, 'online')
  let status = started
  for (let n = documents; status.status === 'running'; n++) {
    await writer.put({ _id: `live-${n}`, ...channels(n) }) // while it runs
    status = await gateway.admin_('GET', '/db/_resync')
  }
  assert.equal(status.status, 'completed', status.last_error)
  await writer.put({ _id: 'afterwards', before: 'x3', after: 'x0' })

  const gained = await ids(writer, doc => doc.after === 'x0')
  await until(reader, async () => {
    const has = new Set(await ids(reader))
    return gained.every(id => has.has(id))
  }, 'what the reader gains')
  const held = new Set(await ids(writer, doc => doc.before === 'x0' || doc.after === 'x0'))
  assert.deepEqual((await ids(reader)).filter(id => !held.has(id)), [], 'the reader has documents that were never its own')
  for (const replication of live) replication.cancel()
  await sleep(100)
  assert.deepEqual(problems, [])

  // What was lost stays with a client that has it, as the seed says; the gateway does not give it out any more.
  const server = remote(gateway.url('db', 'reader'))
  const lost = await ids(writer, doc => doc.before === 'x0' && doc.after !== 'x0')
  assert.ok(lost.length > 0)
  await assert.rejects(server.get(lost[0]), err => err.status === 403)
  assert.equal((await reader.get(lost[0])).before, 'x0')
  const fresh = local()
  await fresh.replicate.from(server)
  // A removal comes as a document without a body.
  assert.deepEqual(await ids(fresh, doc => Object.keys(doc).length > 2), gained)
})

// The gateway is killed under a replicating Couchbase Lite and comes back on the same data and ports: the client finishes
// by itself, and nothing is lost or doubled.
import { test, before, after, describe } from 'node:test'
import assert from 'node:assert/strict'
import { startGateway, PASSWORD } from './gateway.mjs'
import { startClient } from './cbl.mjs'

let gateway
let client
before(async () => { [gateway, client] = await Promise.all([startGateway(), startClient()]) })
after(() => Promise.all([gateway?.stop(), client?.stop()]))

const DOCS = 5_000
const ann = { user: 'ann', password: PASSWORD }
const steadfast = { continuous: true, maxAttemptWait: 2 }

async function database (name) {
  await gateway.createDatabase(name, { sync: 'function (doc) { channel(doc.channels); }' })
  await gateway.createUser(name, 'ann', ['*'])
  const db = await client.open(name)
  await db.putMany({ prefix: 'doc-', count: DOCS, bytes: 1000 })
  return { db, url: gateway.ws(name) }
}

// crashOnce kills and restarts the gateway as soon as the replicator has told of some documents, but not of all.
async function crashOnce (db, replicator, documents) {
  await db.until(() => replicator[documents].length > 0, 'the first documents')
  await gateway.kill()
  const done = replicator[documents].length
  assert.ok(done < DOCS, `killed in the middle, after ${done}`)
  await gateway.restart()
}

// onceEach checks that the gateway has each document once, in its first revision, without conflicts.
async function onceEach (name) {
  const { results } = await gateway.admin_('GET', `/${name}/_changes?style=all_docs`)
  const docs = results.filter(row => row.id.startsWith('doc-'))
  assert.equal(docs.length, DOCS)
  assert.equal(new Set(docs.map(row => row.id)).size, DOCS)
  for (const { id, changes } of docs) {
    assert.equal(changes.length, 1, id)
    assert.match(changes[0].rev, /^(1-|[0-9a-f]+@)/, id)
  }
}

describe('Couchbase Lite and a gateway killed with SIGKILL', { concurrency: false }, () => {
  test('in the middle of a push', async () => {
    const { db, url } = await database('push')
    const push = await db.replicator(url, ann, { ...steadfast, type: 'push' })
    await push.start()
    await crashOnce(db, push, 'pushed')
    await db.until(async () => push.status?.activity === 'idle' && (await push.pending()).length === 0, 'the push is finished')
    assert.deepEqual(push.errors, [])
    await push.stop()
    await onceEach('push')
    const copy = await client.open('push-copy')
    await (await copy.replicator(url, ann, { type: 'pull' })).run()
    assert.deepEqual(await copy.digest(), await db.digest())
  })

  test('in the middle of a pull', async () => {
    const { db, url } = await database('pull')
    await (await db.replicator(url, ann, { type: 'push' })).run()
    const copy = await client.open('pull-copy')
    const pull = await copy.replicator(url, ann, { ...steadfast, type: 'pull' })
    await pull.start()
    await crashOnce(copy, pull, 'pulled')
    await copy.until(async () => pull.status?.activity === 'idle' && await copy.count() === DOCS, 'the pull is finished')
    await pull.stop()
    assert.deepEqual(pull.errors, [])
    assert.deepEqual(await copy.digest(), await db.digest())
    await onceEach('pull')
  })

  test('while idle: both sides go on afterwards', async () => {
    const { db, url } = await database('idle')
    const sync = await db.replicator(url, ann, steadfast)
    await sync.start()
    await db.until(async () => sync.status?.activity === 'idle' && (await sync.pending()).length === 0, 'all is pushed')
    await gateway.kill()
    await sync.reaches('offline', 'connecting')
    await db.put('offline', { v: 1 })
    await gateway.restart()
    await gateway.admin_('PUT', '/idle/elsewhere', { v: 2 })
    await db.until(async () => (await db.get('elsewhere'))?.v === 2 && (await sync.pending()).length === 0, 'both ways are open again')
    assert.equal((await gateway.admin_('GET', '/idle/offline')).v, 1)
    await sync.stop()
    await onceEach('idle')
  })
})

// A Couchbase Lite client and a PouchDB client on one database see each other's edits, deletes and attachments.
import { test, before, after, describe } from 'node:test'
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { startGateway, PASSWORD } from './gateway.mjs'
import { startClient, generated } from './cbl.mjs'
import { local, remote, until } from './pouch.mjs'

let gateway
let client
before(async () => { [gateway, client] = await Promise.all([startGateway(), startClient()]) })
after(() => Promise.all([gateway?.stop(), client?.stop()]))

const ann = { user: 'ann', password: PASSWORD }
const sha256 = bytes => createHash('sha256').update(bytes).digest('hex')
const missing = (db, id) => db.get(id).then(() => false, err => { if (err.status === 404) return true; throw err })

// pair makes a database with one client of each kind.
async function pair (name) {
  await gateway.createDatabase(name, { sync: 'function (doc) { channel(doc.channels); }' })
  await gateway.createUser(name, 'ann', ['*'])
  const couchbase = await client.open(name)
  const replicator = members => couchbase.replicator(gateway.ws(name), ann, members)
  return { couchbase, replicator, pouch: local(), server: remote(gateway.url(name, 'ann')) }
}

describe('Couchbase Lite beside PouchDB', { concurrency: false }, () => {
  test('edits and deletes go both ways, live', async () => {
    const { couchbase, replicator, pouch, server } = await pair('mixed')
    await couchbase.putMany({ prefix: 'cbl-', count: 100, bytes: 50 })
    await pouch.bulkDocs(Array.from({ length: 100 }, (_, i) => ({ _id: `pouch-${i}`, n: i, nested: { list: [1.5, null, 'ü☂'] } })))
    const mine = await replicator({ continuous: true })
    await mine.start()
    const theirs = pouch.sync(server, { live: true, retry: true })
    try {
      await couchbase.until(async () => await couchbase.count() === 200, 'Couchbase Lite has all')
      await until(pouch, async () => (await pouch.info()).doc_count === 200, 'PouchDB has all')
      assert.deepEqual(await couchbase.get('pouch-7'), { n: 7, nested: { list: [1.5, null, 'ü☂'] } })
      assert.equal((await pouch.get('cbl-000007')).n, 7)

      await pouch.put({ ...(await pouch.get('cbl-000001')), by: 'pouch' })
      await couchbase.until(async () => (await couchbase.get('cbl-000001')).by === 'pouch', 'the edit of PouchDB')
      await couchbase.patch('cbl-000001', { by: 'couchbase' })
      await until(pouch, async () => (await pouch.get('cbl-000001')).by === 'couchbase', 'the edit of Couchbase Lite')

      await pouch.remove(await pouch.get('cbl-000002'))
      await couchbase.until(async () => await couchbase.get('cbl-000002') === null, 'the delete of PouchDB')
      await couchbase.delete('pouch-2')
      await until(pouch, () => missing(pouch, 'pouch-2'), 'the delete of Couchbase Lite')
    } finally {
      theirs.cancel()
      await mine.stop()
    }
    assert.deepEqual(mine.errors, [])
    const { rows } = await pouch.allDocs({ conflicts: true, include_docs: true })
    assert.deepEqual(rows.map(row => row.id).sort(), await couchbase.ids())
    for (const { id, doc } of rows) {
      const { _id, _rev, _conflicts, ...body } = doc
      assert.equal(_conflicts, undefined, id)
      assert.deepEqual(await couchbase.get(id), body, id)
    }
  })

  test('a blob of Couchbase Lite is the attachment blob_/PROPERTY for PouchDB', async () => {
    const { couchbase, replicator, pouch, server } = await pair('blob')
    await couchbase.put('x', { v: 1 })
    await couchbase.attach('x', 'pic', 3, 100_000, 'image/png')
    await (await replicator()).run()
    await pouch.replicate.from(server)
    const doc = await pouch.get('x')
    assert.equal(doc.pic['@type'], 'blob')
    assert.deepEqual(Object.keys(doc._attachments), ['blob_/pic'])
    assert.equal(doc._attachments['blob_/pic'].content_type, 'image/png')
    assert.equal(sha256(await pouch.getAttachment('x', 'blob_/pic')), sha256(generated(3, 100_000)))
    // An edit by PouchDB keeps it readable for both, and one by Couchbase Lite after that too.
    await pouch.put({ ...doc, v: 2 })
    await pouch.replicate.to(server)
    await (await replicator()).run()
    assert.equal((await couchbase.get('x')).v, 2)
    assert.equal((await couchbase.blob('x', 'pic')).sha256, sha256(generated(3, 100_000)))
    await couchbase.patch('x', { v: 3 })
    await (await replicator()).run()
    await pouch.replicate.from(server)
    assert.equal((await pouch.get('x')).v, 3)
    assert.equal(sha256(await pouch.getAttachment('x', 'blob_/pic')), sha256(generated(3, 100_000)))
  })

  test('an attachment of PouchDB reaches Couchbase Lite and outlives its edits', async () => {
    const { couchbase, replicator, pouch, server } = await pair('attachment')
    const note = Buffer.from('a note '.repeat(1000))
    await pouch.put({ _id: 'x', v: 1, _attachments: { 'note.txt': { content_type: 'text/plain', data: note.toString('base64') } } })
    await pouch.replicate.to(server)
    await (await replicator()).run()
    const got = await couchbase.blob('x', '_attachments', 'note.txt')
    assert.deepEqual([got.length, got.sha256, got.contentType], [note.length, sha256(note), 'text/plain'])
    await couchbase.patch('x', { v: 2 })
    await (await replicator()).run()
    await pouch.replicate.from(server)
    assert.equal((await pouch.get('x')).v, 2)
    assert.equal(String(await pouch.getAttachment('x', 'note.txt')), String(note))
  })
})

// Named collections, with a driver whose client has them; the one in cbl/ has not, and must say so.
import { test, before, after, describe } from 'node:test'
import assert from 'node:assert/strict'
import { startGateway, PASSWORD } from './gateway.mjs'
import { startClient } from './cbl.mjs'

const client = await startClient()
let gateway
before(async () => { gateway = await startGateway() })
after(() => Promise.all([gateway?.stop(), client.stop()]))

const ann = { user: 'ann', password: PASSWORD }
const routed = { sync: 'function (doc) { channel(doc.channels); }' }
const refusing = { sync: 'function (doc) { if (doc.bad) throw({forbidden: "bad"}); channel(doc.channels); }' }

// database makes one with the collections s.one, which refuses bad documents, and s.two.
async function database (name) {
  await gateway.createDatabase(name, { scopes: { s: { collections: { one: refusing, two: routed } } } })
  const all = { admin_channels: ['*'] }
  await gateway.createUser(name, 'ann', ['*'], { collection_access: { s: { one: all, two: all } } })
  return gateway.ws(name)
}

const both = { collections: [{ scope: 's', collection: 'one' }, { scope: 's', collection: 'two' }] }

if (client.hello.collections) {
  describe('Couchbase Lite with named collections', { concurrency: false }, () => {
    test('each collection replicates to its own, under its own sync function', async () => {
      const url = await database('named')
      const [a, b] = [await client.open('named-a'), await client.open('named-b')]
      const [one, two] = ['one', 'two'].map(name => a.collection('s', name))
      await one.putMany({ prefix: 'd', count: 500, bytes: 50 })
      await two.putMany({ prefix: 'd', count: 300, bytes: 80 })
      for (const collection of [one, two]) await collection.put('bad', { bad: true })
      const push = await (await a.replicator(url, ann, both)).run()
      assert.deepEqual([...new Set(push.errors.map(({ collection, doc, error }) => `${collection} ${doc} ${error.code}`))], ['one bad 403'])
      await (await b.replicator(url, ann, both)).run()
      await one.purge('bad')
      for (const collection of [one, two]) {
        const copy = await b.collection(collection.scope, collection.collectionName).digest()
        assert.deepEqual(copy, await collection.digest())
      }
      assert.equal((await gateway.admin_('GET', '/named.s.one/_all_docs')).rows.length, 500)
      assert.equal((await gateway.admin_('GET', '/named.s.two/_all_docs')).rows.length, 301)
    })

    test('an unknown collection ends the replicator with 404', async () => {
      const url = await database('unknown')
      const a = await client.open('unknown')
      await a.collection('s', 'three').put('x', { v: 1 })
      const replicator = await a.replicator(url, ann, { collections: [{ scope: 's', collection: 'three' }] })
      const { code } = await replicator.fails()
      assert.equal(code, 404)
    })
  })
} else {
  test('a driver without collections refuses commands that name one', async () => {
    const db = await client.open('plain')
    await assert.rejects(db.collection('s', 'one').put('x', { v: 1 }), { domain: 'Unsupported' })
    await assert.rejects(db.replicator(await database('plain'), ann, both), { domain: 'Unsupported' })
    assert.equal(await db.count(), 0)
  })
}

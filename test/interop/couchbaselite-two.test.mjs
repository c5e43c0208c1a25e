// Two Couchbase Lite processes on one database. With $CBL_DRIVER they are of different versions: one keeps revision trees,
// the other may keep version vectors.
import { test, before, after, describe } from 'node:test'
import assert from 'node:assert/strict'
import { startGateway, PASSWORD } from './gateway.mjs'
import { startClient } from './cbl.mjs'

let gateway
let clients
before(async () => {
  gateway = await startGateway()
  clients = await Promise.all([startClient({ own: true }), startClient()])
})
after(() => Promise.all([gateway?.stop(), ...(clients ?? []).map(client => client.stop())]))

const ann = { user: 'ann', password: PASSWORD }

// database makes one on the gateway, and a local one in each client with a replicator.
async function database (name, members = {}) {
  await gateway.createDatabase(name, { sync: 'function (doc) { channel(doc.channels); }', delta_sync: { enabled: true } })
  await gateway.createUser(name, 'ann', ['*'])
  return Promise.all(clients.map(async client => {
    const db = await client.open(name)
    return { db, replicator: await db.replicator(gateway.ws(name), ann, members) }
  }))
}

const settled = async ({ db, replicator }, others) =>
  replicator.status?.activity === 'idle' && (await replicator.pending()).length === 0 &&
  JSON.stringify(await db.digest()) === JSON.stringify(await others.db.digest())

describe('two Couchbase Lite processes', { concurrency: false }, () => {
  test('edit and delete the same documents in turn, live', async () => {
    const [a, b] = await database('turns', { continuous: true })
    await a.db.putMany({ prefix: 'a', count: 200, bytes: 500 })
    await b.db.putMany({ prefix: 'b', count: 200, bytes: 500 })
    await a.db.attach('a000000', 'pic', 9, 50_000, 'image/png')
    for (const { replicator } of [a, b]) await replicator.start()
    try {
      for (const { db } of [a, b]) await db.until(async () => await db.count() === 400, `${db.client.hello.version} has all`)
      // The same document goes back and forth: each edit builds on the other's.
      for (let turn = 1; turn <= 10; turn++) {
        const [from, to] = turn % 2 ? [a, b] : [b, a]
        for (const id of ['a000000', 'b000000']) await from.db.patch(id, { turn, [`turn${turn}`]: from.db.client.hello.version })
        for (const id of ['a000000', 'b000000']) await to.db.until(async () => (await to.db.get(id)).turn === turn, `turn ${turn}`)
      }
      await a.db.delete('b000001')
      await b.db.until(async () => await b.db.get('b000001') === null, 'the delete of a')
      await b.db.delete('a000001')
      await a.db.until(async () => await a.db.get('a000001') === null, 'the delete of b')
      await b.db.put('a000001', { again: true })
      await a.db.until(async () => (await a.db.get('a000001'))?.again, 'the document made anew')
      await a.db.until(() => settled(a, b), 'a is settled')
      await b.db.until(() => settled(b, a), 'b is settled')
    } finally {
      for (const { replicator } of [a, b]) await replicator.stop()
    }
    for (const { replicator } of [a, b]) assert.deepEqual(replicator.errors, [])
    assert.equal((await b.db.blob('a000000', 'pic')).sha256, (await a.db.blob('a000000', 'pic')).sha256)
    assert.equal(Object.keys(await a.db.get('a000000')).filter(name => /^turn\d/.test(name)).length, 10)
  })

  for (const [resolver, members] of [['localWins', { v: 'second' }], ['remoteWins', { v: 'first' }], ['merge', { v: 'second', first: 1, second: 1 }]]) {
    for (const order of [[0, 1], [1, 0]]) {
      const name = `clash-${resolver.toLowerCase()}-${order[0]}`
      test(`a conflict: ${resolver}, client ${order[1]} resolves`, async () => {
        const both = await database(name, { resolver })
        const [first, second] = order.map(i => both[i])
        await first.db.put('x', { v: 0 })
        for (const { replicator } of [first, second]) await replicator.run()
        await first.db.patch('x', { v: 'first', first: 1 })
        await second.db.patch('x', { v: 'second', second: 1 })
        // The first one's edit arrives first; the second one resolves, pushes, and the first one takes it over.
        for (const { replicator } of [first, second, second, first]) await replicator.run()
        const got = await first.db.get('x')
        assert.deepEqual(await second.db.get('x'), got)
        for (const [key, value] of Object.entries(members)) assert.equal(got[key], value, key)
        const doc = await gateway.admin_('GET', `/${name}/x?conflicts=true`)
        assert.equal(doc._conflicts, undefined)
        assert.equal(doc.v, members.v)
      })
    }
  }
})

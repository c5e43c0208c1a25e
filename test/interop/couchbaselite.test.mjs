// Real Couchbase Lite clients through the gateway: documents, blobs, conflicts, channels, filters, logins.
import { test, before, after, describe } from 'node:test'
import assert from 'node:assert/strict'
import { startGateway, PASSWORD } from './gateway.mjs'
import { startClient, generated } from './cbl.mjs'
import { createHash } from 'node:crypto'

let gateway
let client
before(async () => { [gateway, client] = await Promise.all([startGateway(), startClient()]) })
after(() => Promise.all([gateway?.stop(), client?.stop()]))

const ROUTE = 'function (doc) { channel(doc.channels); }'
const MiB = 1 << 20
const ann = { user: 'ann', password: PASSWORD }
const sha256 = bytes => createHash('sha256').update(bytes).digest('hex')

// database makes an empty database on the gateway, with ann who may read everything.
async function database (name, config = {}) {
  await gateway.createDatabase(name, { sync: ROUTE, ...config })
  await gateway.createUser(name, 'ann', ['*'])
  return gateway.ws(name)
}

// open gives local databases of these names.
const open = (...names) => Promise.all(names.map(name => client.open(name)))

// sync pushes and pulls once with each database in turn.
async function sync (url, ...dbs) {
  for (const db of dbs) await (await db.replicator(url, ann)).run()
}

// live starts a continuous replicator on each database and waits until all have caught up.
async function live (url, dbs, members = {}) {
  const replicators = []
  for (const db of dbs) {
    const replicator = await db.replicator(url, ann, { continuous: true, ...members })
    await replicator.start()
    await replicator.reaches('idle')
    replicators.push(replicator)
  }
  return replicators
}

const stopAll = replicators => Promise.all(replicators.map(r => r.stop()))

describe('Couchbase Lite', { concurrency: false }, () => {
  test('pushes 10,000 documents; another database pulls them; both are equal', async () => {
    const url = await database('many')
    const [a, b] = await open('many-a', 'many-b')
    await a.putMany({ prefix: 'doc-', count: 10_000, bytes: 200, body: { channels: ['all'], nested: { list: [1, -0.5, 1e21, null, true, '☂ "q"'] } } })
    const push = await (await a.replicator(url, ann, { type: 'push' })).run()
    assert.deepEqual(push.errors, [])
    assert.equal(push.status.error, undefined)
    assert.deepEqual(await push.pending(), [])
    const pull = await (await b.replicator(url, ann, { type: 'pull' })).run()
    assert.deepEqual(pull.errors, [])
    const want = await a.digest()
    assert.equal(want.count, 10_000)
    assert.deepEqual(await b.digest(), want)
    // The checkpoints hold: another run moves nothing; forgetting them changes nothing either.
    for (const reset of [false, true]) {
      for (const replicator of [push, pull]) {
        await replicator.run({ resetCheckpoint: reset })
        assert.deepEqual([...replicator.pushed, ...replicator.pulled], [])
      }
    }
    assert.deepEqual(await b.digest(), want)
  })

  test('live two-way sync: new documents, edits and deletes go both ways', async () => {
    const url = await database('live')
    const [a, b] = await open('live-a', 'live-b')
    await a.putMany({ prefix: 'x', count: 50, bytes: 20 })
    const replicators = await live(url, [a, b])
    try {
      await b.until(async () => await b.count() === 50, 'b has the documents')
      for (const [from, to] of [[a, b], [b, a]]) {
        const id = `new-${from.name}`
        await from.put(id, { v: 1 })
        await to.until(async () => (await to.get(id))?.v === 1, `${to.name} has the new document`)
        await to.patch(id, { v: 2, by: to.name })
        await from.until(async () => (await from.get(id))?.v === 2, `${from.name} has the edit`)
        await from.delete(id)
        await to.until(async () => await to.get(id) === null, `${to.name} has the delete`)
        await to.put(id, { v: 3 })
        await from.until(async () => (await from.get(id))?.v === 3, `${from.name} has the document made anew`)
      }
      await Promise.all([a.putMany({ prefix: 'a', count: 300, bytes: 20 }), b.putMany({ prefix: 'b', count: 300, bytes: 20 })])
      for (const db of [a, b]) await db.until(async () => await db.count() === 652, `${db.name} has all`)
    } finally {
      await stopAll(replicators)
    }
    assert.deepEqual(await a.digest(), await b.digest())
    for (const r of replicators) assert.deepEqual(r.errors, [])
  })

  test('blobs of 1 MB and of 20 MiB go both ways; a larger one is refused', async () => {
    const url = await database('blobs')
    const [a, b] = await open('blobs-a', 'blobs-b')
    const sizes = { small: 10, none: 0, mega: 1_000_000, limit: 20 * MiB }
    for (const [id, length] of Object.entries(sizes)) await a.attach(id, 'pic', length + 1, length, 'image/png')
    await sync(url, a, b)
    for (const [id, length] of Object.entries(sizes)) {
      const { length: got, sha256: hash, contentType } = await b.blob(id, 'pic')
      assert.deepEqual([got, hash, contentType], [length, sha256(generated(length + 1, length)), 'image/png'], id)
      // And back: b replaces it, and puts a second one beside it.
      await b.attach(id, 'pic', length + 2, length, 'image/jpeg')
      await b.attach(id, 'second', 77, 1000, 'text/plain')
    }
    await sync(url, b, a)
    for (const [id, length] of Object.entries(sizes)) {
      assert.equal((await a.blob(id, 'pic')).sha256, sha256(generated(length + 2, length)), id)
      assert.equal((await a.blob(id, 'second')).sha256, sha256(generated(77, 1000)), id)
    }
    assert.deepEqual(await a.digest(), await b.digest())
    // An edit that leaves the blob alone leaves it readable.
    await a.patch('mega', { edited: true })
    await sync(url, a, b)
    assert.equal((await b.get('mega')).edited, true)
    assert.equal((await b.blob('mega', 'pic')).length, 1_000_000)
    await a.attach('over', 'pic', 1, 20 * MiB + 1, 'image/png')
    await a.put('beside', { v: 1 })
    const push = await (await a.replicator(url, ann, { type: 'push' })).run()
    assert.deepEqual(push.errors.map(({ doc, error }) => [doc, error.domain, error.code]), [['over', 'HTTP', 413]])
    assert.equal((await gateway.admin_('GET', '/blobs/beside')).v, 1)
    await gateway.admin_('GET', '/blobs/over', undefined, [404])
  })

  test('deletes go both ways, and a document deleted before the first pull never shows', async () => {
    const url = await database('deletes')
    const [a, b, c] = await open('deletes-a', 'deletes-b', 'deletes-c')
    await a.putMany({ prefix: 'd', count: 20, bytes: 20 })
    await sync(url, a, b)
    await a.delete('d000001')
    await b.delete('d000002')
    await sync(url, a, b, a)
    await sync(url, c)
    for (const db of [a, b, c]) {
      assert.equal(await db.count(), 18, db.name)
      assert.equal(await db.get('d000001'), null)
      assert.equal(await db.get('d000002'), null)
    }
    for (const id of ['d000001', 'd000002']) await gateway.admin_('GET', `/deletes/${id}`, undefined, [404])
    // Both delete the same document on their own: no conflict is left.
    await a.delete('d000003')
    await b.delete('d000003')
    await sync(url, a, b, a)
    assert.deepEqual(await a.digest(), await b.digest())
    assert.equal(await a.get('d000003'), null)
  })

  describe('a conflict on push is resolved by the client', () => {
    // conflicting gives two databases that changed document x in different ways, a's change being on the gateway already.
    async function conflicting (name, change) {
      const url = await database(name)
      const [a, b] = await open(`${name}-a`, `${name}-b`)
      await a.put('x', { v: 0 })
      await sync(url, a, b)
      await change(a, b)
      await sync(url, a)
      return { url, a, b }
    }

    // settle lets b resolve with the resolver, brings the outcome to a, and returns it.
    async function settle ({ url, a, b }, resolver) {
      const replicator = await (await b.replicator(url, ann, { resolver })).run()
      if (resolver !== 'default') assert.deepEqual(replicator.conflicts, ['x'])
      // A run that pushes once may end before its pull has brought the conflict: then the next one pushes what b resolved.
      await replicator.run()
      assert.deepEqual(replicator.conflicts, [])
      assert.deepEqual(replicator.errors, [])
      assert.deepEqual(await replicator.pending(), [])
      await sync(url, a)
      assert.deepEqual(await a.digest(), await b.digest())
      return a.get('x')
    }

    const edits = async (a, b) => { await a.patch('x', { v: 'a', fromA: 1 }); await b.patch('x', { v: 'b', fromB: 1 }) }

    for (const [resolver, want] of [
      ['localWins', { v: 'b', fromB: 1 }],
      ['remoteWins', { v: 'a', fromA: 1 }],
      ['merge', { v: 'b', fromA: 1, fromB: 1 }]
    ]) {
      test(resolver, async () => {
        const sides = await conflicting(`conflict-${resolver.toLowerCase()}`, edits)
        assert.deepEqual(await settle(sides, resolver), want)
        const doc = await gateway.admin_('GET', `/conflict-${resolver.toLowerCase()}/x?conflicts=true`)
        assert.equal(doc._conflicts, undefined)
        assert.equal(doc.v, want.v)
      })
    }

    test('default', async () => {
      const sides = await conflicting('conflict-default', edits)
      const outcome = await settle(sides, 'default')
      assert.ok(['a', 'b'].includes(outcome.v))
      assert.deepEqual(Object.keys(outcome).length, 2, 'one of the two, not a mixture')
    })

    test('an edit against a delete', async () => {
      const sides = await conflicting('conflict-delete', async (a, b) => { await a.delete('x'); await b.patch('x', { v: 'b' }) })
      assert.deepEqual(await settle(sides, 'merge'), { v: 'b' })
    })

    test('a push without a pull reports the conflict and leaves both sides alone', async () => {
      const { url, b } = await conflicting('conflict-pushonly', edits)
      const push = await (await b.replicator(url, ann, { type: 'push' })).run()
      assert.deepEqual(push.errors.map(({ doc, error }) => [doc, error.domain, error.code]), [['x', 'HTTP', 409]])
      assert.equal((await b.get('x')).v, 'b')
      assert.equal((await gateway.admin_('GET', '/conflict-pushonly/x')).v, 'a')
    })
  })

  for (const autoPurge of [true, false]) {
    test(`channels granted and revoked during a live pull, ${autoPurge ? 'with' : 'without'} auto-purge`, async () => {
      const name = autoPurge ? 'access-purge' : 'access-keep'
      await gateway.createDatabase(name, { sync: ROUTE })
      await gateway.createUser(name, 'ann', ['one'])
      const docs = ['one', 'two', 'both'].flatMap(kind => Array.from({ length: 30 }, (_, i) =>
        ({ _id: `${kind}-${i}`, channels: kind === 'both' ? ['one', 'two'] : [kind] })))
      await gateway.admin_('POST', `/${name}/_bulk_docs`, { docs })
      const [a] = await open(name)
      const [replicator] = await live(gateway.ws(name), [a], { type: 'pull', autoPurge })
      try {
        await a.until(async () => await a.count() === 60, 'the first channel is here')
        await gateway.admin_('PUT', `/${name}/_user/ann`, { admin_channels: ['one', 'two'] })
        await a.until(async () => await a.count() === 90, 'the granted channel is here')
        await gateway.admin_('PUT', `/${name}/_user/ann`, { admin_channels: ['two'] })
        const lost = () => replicator.pulled.filter(doc => doc.accessRemoved).map(doc => doc.doc)
        const revoked = docs.filter(doc => !doc.channels.includes('two')).map(doc => doc._id).sort()
        await a.until(async () => lost().length >= 30 && await a.count() === (autoPurge ? 60 : 90), 'the loss is felt')
        assert.deepEqual(lost().sort(), revoked)
        // One document leaves the channel that she still has.
        const doc = await gateway.admin_('GET', `/${name}/two-0`)
        await gateway.admin_('PUT', `/${name}/two-0?rev=${doc._rev}`, { channels: ['elsewhere'], secret: 'not for ann' })
        await a.until(async () => lost().includes('two-0') && await a.count() === (autoPurge ? 59 : 90), 'the removal is felt')
        assert.equal((await a.get('two-0'))?.secret, undefined)
        // Access that comes back brings the documents back.
        await gateway.admin_('PUT', `/${name}/_user/ann`, { admin_channels: ['one', 'two'] })
        await a.until(async () => await a.count() === (autoPurge ? 89 : 90), 'the documents are back')
      } finally {
        await replicator.stop()
      }
    })
  }

  test('a channel filter narrows a pull', async () => {
    const url = await database('bychannel')
    await gateway.admin_('POST', '/bychannel/_bulk_docs', { docs: Array.from({ length: 30 }, (_, i) => ({ _id: `d${i}`, channels: [['red'], ['blue'], ['red', 'green']][i % 3] })) })
    const [a] = await open('bychannel')
    const replicator = await (await a.replicator(url, ann, { type: 'pull', channels: ['red', 'unknown'] })).run()
    assert.equal(await a.count(), 20)
    assert.equal(replicator.pulled.length, 20)
    for (const id of await a.ids()) assert.ok((await a.get(id)).channels.includes('red'), id)
  })

  test('a filter by document IDs narrows a push and a pull', async () => {
    const url = await database('byid')
    await gateway.admin_('POST', '/byid/_bulk_docs', { docs: [{ _id: 'x' }, { _id: 'y' }, { _id: 'z' }] })
    const [a] = await open('byid')
    for (const id of ['m', 'n']) await a.put(id, {})
    await (await a.replicator(url, ann, { docs: ['x', 'm', 'nowhere'] })).run()
    assert.deepEqual(await a.ids(), ['m', 'n', 'x'])
    const { rows } = await gateway.admin_('GET', '/byid/_all_docs')
    assert.deepEqual(rows.map(row => row.id).sort(), ['m', 'x', 'y', 'z'])
  })

  test('with delta_sync on, edits of large documents arrive whole, both ways', async () => {
    const url = await database('deltas', { delta_sync: { enabled: true } })
    const [a, b] = await open('deltas-a', 'deltas-b')
    await a.putMany({ prefix: 'd', count: 100, bytes: 4000, body: { list: [1, 2, 3], map: { one: 1, two: { deep: true } }, text2: 'ünï ☂ 𝄞' } })
    await a.attach('d000000', 'pic', 5, 5000, 'image/png')
    await sync(url, a, b)
    for (const [from, to] of [[a, b], [b, a]]) {
      for (const id of await from.ids()) {
        await from.patch(id, { list: [1, 3, { by: from.name }], map: { two: { deep: false } }, text2: `ünï ☃ 𝄞 ${from.name}` })
      }
      await sync(url, from, to)
      assert.deepEqual(await a.digest(), await b.digest())
      assert.deepEqual((await to.get('d000050')).list, [1, 3, { by: from.name }])
    }
    assert.equal((await b.blob('d000000', 'pic')).sha256, sha256(generated(5, 5000)))
    // And they did travel as deltas.
    const { delta_sync: deltas } = (await gateway.admin_('GET', '/_expvar')).syncgateway.per_db.deltas
    assert.ok(deltas.deltas_sent >= 200 && deltas.delta_push_doc_count >= 200, JSON.stringify(deltas))
  })

  test('what the sync function forbids is reported for that document alone', async () => {
    const url = await database('forbid', { sync: 'function (doc) { if (doc.bad) throw({forbidden: "no bad documents"}); channel(doc.channels); }' })
    const [a] = await open('forbid')
    await a.putMany({ prefix: 'good', count: 50, bytes: 10 })
    await a.put('bad', { bad: true })
    const push = await (await a.replicator(url, ann, { type: 'push' })).run()
    assert.deepEqual([...new Set(push.errors.map(({ doc, error }) => `${doc} ${error.domain} ${error.code}`))], ['bad HTTP 403'])
    assert.equal((await gateway.admin_('GET', '/forbid/_all_docs')).rows.length, 50)
  })

  test('a wrong password, an unknown user and an unknown database end the replicator with 401', async () => {
    const url = await database('login')
    const [a] = await open('login')
    for (const [to, login] of [[url, { ...ann, password: 'wrong' }], [url, { ...ann, user: 'nobody' }], [gateway.ws('nowhere'), ann]]) {
      const { domain, code } = await (await a.replicator(to, login, { continuous: true })).fails()
      assert.deepEqual([domain, code], ['HTTP', 401])
    }
  })

  test('a session logs in until it is ended', async () => {
    const url = await database('session')
    const [a] = await open('session')
    const { session_id: session, cookie_name: cookie } = await gateway.admin_('POST', '/session/_session', { name: 'ann' })
    await a.put('x', { v: 1 })
    await (await a.replicator(url, { session, cookie })).run()
    assert.equal((await gateway.admin_('GET', '/session/x')).v, 1)
    await gateway.admin_('DELETE', `/session/_session/${session}`)
    const { domain, code } = await (await a.replicator(url, { session, cookie })).fails()
    assert.deepEqual([domain, code], ['HTTP', 401])
  })

  for (const [what, act] of [
    ['disabled', db => gateway.admin_('PUT', `/${db}/_user/ann`, { disabled: true })],
    ['deleted', db => gateway.admin_('DELETE', `/${db}/_user/ann`)]
  ]) {
    test(`a user ${what} while connected is cut off`, async () => {
      const name = `user-${what}`
      const url = await database(name)
      const [a] = await open(name)
      const [replicator] = await live(url, [a], { maxAttemptWait: 2 })
      await gateway.admin_('PUT', `/${name}/before`, { v: 1 })
      await a.until(async () => await a.get('before') !== null, 'the live replication works')
      await act(name)
      await gateway.admin_('PUT', `/${name}/after`, { v: 1 })
      const { error } = await replicator.reaches('stopped')
      assert.deepEqual([error?.domain, error?.code], ['HTTP', 401])
      assert.equal(await a.get('after'), null)
    })
  }
})

// The main job on real input: PouchDB databases stay in step through the gateway.
import { test, before, after, describe } from 'node:test'
import assert from 'node:assert/strict'
import { startGateway } from './gateway.mjs'
import { follow, local, remote, remoteBy, snapshot, assertSame, until } from './pouch.mjs'

let gateway
before(async () => { gateway = await startGateway() })
after(() => gateway?.stop())

const ROUTE = 'function (doc) { channel(doc.channels); }'

describe('PouchDB', { concurrency: false }, () => {
  test('pushes 10,000 documents with attachments; another pulls them; all are equal', async () => {
    await gateway.createDatabase('many', { sync: ROUTE })
    await gateway.createUser('many', 'ann', ['*'])
    const [a, b] = [local(), local()]
    const server = remote(gateway.url('many', 'ann'))
    for (let from = 0; from < 10_000; from += 500) {
      await a.bulkDocs(Array.from({ length: 500 }, (_, i) => {
        const n = from + i
        return {
          _id: `doc-${String(n).padStart(5, '0')}`,
          number: n,
          text: `document ${n} ☂ "quoted" \u0001`,
          nested: { list: [1, -0.5, 1e21, null, true, { deep: [n] }] },
          _attachments: { 'note.txt': { content_type: 'text/plain', data: Buffer.from(`note ${n}`).toString('base64') } }
        }
      }))
    }
    const pushed = await a.replicate.to(server, { batch_size: 500 })
    assert.equal(pushed.docs_written, 10_000)
    assert.equal(pushed.doc_write_failures, 0)
    const pulled = await b.replicate.from(server, { batch_size: 500 })
    assert.equal(pulled.docs_written, 10_000)
    const docs = await assertSame(a, b, { attachments: true })
    assert.equal(Object.keys(docs).length, 10_000)
    const again = await b.replicate.from(server)
    assert.equal(again.docs_read, 0, 'the checkpoint holds')
  })

  // With retry: true PouchDB 9 loses 300 of them: it drops the batches that wait, goes on behind those, and says so in its checkpoint.
  test('a feed that breaks while a batch is under way costs no document, synced as the docs advise', async () => {
    await gateway.createDatabase('broken', { sync: ROUTE })
    await gateway.createUser('broken', 'ann', ['*'])
    const docs = Array.from({ length: 600 }, (_, i) => ({ _id: `d${String(i).padStart(4, '0')}`, n: i }))
    await remote(gateway.url('broken', 'ann')).bulkDocs(docs)
    let feeds = 0
    let broke
    const broken = new Promise(resolve => { broke = resolve })
    const server = remoteBy(gateway.url('broken', 'ann'), async (fetch, path, options) => {
      if (path.includes('/_changes') && ++feeds === 5) {
        setTimeout(broke, 10)
        throw new Error('the feed broke')
      }
      if (path.includes('/_bulk_get')) await broken
      return fetch(path, options)
    })
    const db = local()
    const errors = []
    const stop = follow(db, server, { batch_size: 100, wait: 10, failed: err => errors.push(err) })
    try {
      await until(db, async () => (await db.allDocs()).rows.length === docs.length, 'all documents are there')
      assert.match(String(errors[0]?.message), /the feed broke/)
    } finally {
      stop()
    }
  })

  test('live two-way sync: edits, deletes, and a conflict made offline on both sides', async () => {
    await gateway.createDatabase('live', { sync: ROUTE, allow_conflicts: true })
    await gateway.createUser('live', 'ann', ['*'])
    const server = remote(gateway.url('live', 'ann'))
    const [a, b] = [local(), local()]
    await a.bulkDocs(Array.from({ length: 50 }, (_, i) => ({ _id: `d${i}`, n: i })))
    await a.sync(server)
    await b.sync(server)
    // Offline: both edit d0 (a conflict); one edits, the other deletes d1; each works on its own besides.
    for (const [db, who] of [[a, 'a'], [b, 'b']]) {
      const doc = await db.get('d0')
      await db.put({ ...doc, by: who, more: who.repeat(5) })
    }
    await a.put({ ...(await a.get('d1')), by: 'a' })
    await b.remove(await b.get('d1'))
    await a.remove(await a.get('d2'))
    await b.put({ _id: 'only-b', x: 1 })
    // Back online.
    const live = [a, b].map(db => db.sync(server, { live: true, retry: true }))
    try {
      const settled = async () => {
        const [x, y, s] = await Promise.all([snapshot(a), snapshot(b), snapshot(server)])
        const same = JSON.stringify(sorted(x)) === JSON.stringify(sorted(y)) && JSON.stringify(sorted(x)) === JSON.stringify(sorted(s))
        return same && x['only-b'] && !x.d2 && x.d0._conflicts?.length === 1
      }
      await Promise.any([until(a, settled, 'a settles'), until(b, settled, 'b settles')])
      // While live: edits and deletes go through both ways.
      await a.put({ ...(await a.get('d3')), edited: 'live' })
      await until(b, async () => (await b.get('d3')).edited === 'live', 'the edit reaches b')
      await b.remove(await b.get('d4'))
      await until(a, async () => await missing(a, 'd4'), 'the delete reaches a')
    } finally {
      live.forEach(s => s.cancel())
    }
    const docs = await assertSame(a, b)
    assert.equal(docs.d0._conflicts.length, 1)
    assert.equal(docs.d1.by, 'a', 'a live branch wins over a deleted one')
    await assertSame(a, server)
  })

  test('without allow_conflicts the server branch wins everywhere and the push succeeds', async () => {
    await gateway.createDatabase('strict', { sync: ROUTE })
    await gateway.createUser('strict', 'ann', ['*'])
    const server = remote(gateway.url('strict', 'ann'))
    const [a, b] = [local(), local()]
    await a.put({ _id: 'x', v: 0 })
    await a.sync(server)
    await b.sync(server)
    await a.put({ ...(await a.get('x')), v: 'first' })
    await b.put({ ...(await b.get('x')), v: 'second' })
    await a.sync(server)
    const result = await b.sync(server)
    assert.equal(result.push.doc_write_failures, 0)
    await b.sync(server)
    await a.sync(server)
    const docs = await assertSame(a, b)
    assert.equal(docs.x.v, 'first')
    assert.equal(docs.x._conflicts, undefined)
  })

  test('each user sees exactly the documents of their channels', async () => {
    await gateway.createDatabase('rooms', { sync: ROUTE })
    await gateway.createUser('rooms', 'red', ['red'])
    await gateway.createUser('rooms', 'blue', ['blue'])
    const both = Array.from({ length: 60 }, (_, i) => ({ _id: `r${i}`, channels: [['red'], ['blue'], ['red', 'blue'], []][i % 4] }))
    await gateway.admin_('POST', '/rooms/_bulk_docs', { docs: both })
    for (const [user, want] of [['red', [0, 2]], ['blue', [1, 2]]]) {
      const db = local()
      await db.replicate.from(remote(gateway.url('rooms', user)))
      const expected = both.filter((_, i) => want.includes(i % 4)).map(d => d._id).sort()
      assert.deepEqual(Object.keys(await snapshot(db)).sort(), expected)
    }
  })

  test('a later grant brings older documents; leaving a channel brings a removal', async () => {
    await gateway.createDatabase('grants', { sync: ROUTE })
    await gateway.createUser('grants', 'eve', ['one'])
    await gateway.admin_('POST', '/grants/_bulk_docs', {
      docs: [
        ...Array.from({ length: 30 }, (_, i) => ({ _id: `one${i}`, channels: ['one'] })),
        ...Array.from({ length: 30 }, (_, i) => ({ _id: `two${i}`, channels: ['two'] }))
      ]
    })
    const server = remote(gateway.url('grants', 'eve'))
    const db = local()
    const live = db.sync(server, { live: true, retry: true })
    try {
      await until(db, async () => Object.keys(await snapshot(db)).length === 30, 'the first channel arrives')
      await gateway.admin_('PUT', '/grants/_user/eve', { admin_channels: ['one', 'two'] })
      await until(db, async () => Object.keys(await snapshot(db)).length === 60, 'the granted channel is backfilled')
      const doc = await gateway.admin_('GET', '/grants/two0')
      await gateway.admin_('PUT', `/grants/two0?rev=${doc._rev}`, { channels: ['elsewhere'], secret: 'not for eve' })
      // PouchDB keeps the removal as an empty revision: what eve may not see any more is gone from her device.
      await until(db, async () => (await db.get('two0')).channels === undefined, 'the removal arrives')
      assert.deepEqual(Object.keys(await db.get('two0')).sort(), ['_id', '_rev'])
    } finally {
      live.cancel()
    }
    // Losing the grant itself: the feed with revocations names every document that went out of reach.
    const { last_seq: since } = await changes('eve', '0')
    await gateway.admin_('PUT', '/grants/_user/eve', { admin_channels: ['one'] })
    const revoked = (await changes('eve', since, '&revocations=true')).results.filter(r => r.revoked).map(r => r.id).sort()
    assert.deepEqual(revoked, Array.from({ length: 29 }, (_, i) => `two${i + 1}`).sort())
  })

  async function changes (user, since, more = '') {
    const url = new URL(gateway.url('grants', user))
    const auth = 'Basic ' + Buffer.from(`${url.username}:${url.password}`).toString('base64')
    const res = await fetch(`${gateway.public}/grants/_changes?since=${encodeURIComponent(since)}${more}`, { headers: { authorization: auth } })
    assert.equal(res.status, 200)
    return res.json()
  }

  test('odd names: document IDs and attachment names survive both ways', async () => {
    await gateway.createDatabase('names', { sync: ROUTE })
    await gateway.createUser('names', 'ann', ['*'])
    const server = remote(gateway.url('names', 'ann'))
    const ids = ['100%', 'a/b', 'a%2Fb', 'with space', 'plus+plus', 'ünï☂', '"quoted"', '?query#hash', 'a:b,c']
    const a = local()
    for (const _id of ids) {
      await a.put({
        _id,
        _attachments: {
          'blob_/pic': { content_type: 'image/png', data: Buffer.from(`pic of ${_id}`).toString('base64') },
          'spaß %.txt': { content_type: 'text/plain', data: Buffer.from('text').toString('base64') }
        }
      })
    }
    await a.replicate.to(server)
    const b = local()
    await b.replicate.from(server)
    await assertSame(a, b, { attachments: true })
    for (const id of ids) {
      assert.equal((await server.get(id))._id, id)
      assert.equal(String(await server.getAttachment(id, 'blob_/pic')), `pic of ${id}`)
    }
  })

  test('works as a plain HTTP database too', async () => {
    await gateway.createDatabase('plain', { sync: ROUTE, allow_conflicts: true })
    await gateway.createUser('plain', 'ann', ['*'])
    const db = remote(gateway.url('plain', 'ann'))
    const info = await db.info()
    assert.equal(info.db_name, 'plain')
    const { rev } = await db.put({ _id: 'a', v: 1 })
    await assert.rejects(db.put({ _id: 'a', v: 2 }), { status: 409 })
    await assert.rejects(db.get('nothing'), { status: 404, reason: 'missing' })
    const second = await db.put({ _id: 'a', _rev: rev, v: 2 })
    const got = await db.get('a', { revs: true, revs_info: true })
    assert.deepEqual(got._revisions.ids.length, 2)
    assert.equal(got._revs_info[1].rev, rev)
    await db.putAttachment('a', 'file.bin', second.rev, Buffer.from([0, 1, 2, 255]), 'application/octet-stream')
    assert.deepEqual([...await db.getAttachment('a', 'file.bin')], [0, 1, 2, 255])
    await db.removeAttachment('a', 'file.bin', (await db.get('a'))._rev)
    await db.bulkDocs([{ _id: 'b' }, { _id: 'c' }, { _id: 'd' }])
    const page = await db.allDocs({ startkey: 'b', endkey: 'c', include_docs: true })
    assert.deepEqual(page.rows.map(r => r.id), ['b', 'c'])
    const keys = await db.allDocs({ keys: ['d', 'zzz'] })
    assert.deepEqual(keys.rows.map(r => r.id ?? r.error), ['d', 'not_found'])
    assert.deepEqual((await db.allDocs({ descending: true, limit: 2 })).rows.map(r => r.id), ['d', 'c'])
    const doc = await db.get('b')
    await db.remove(doc)
    await assert.rejects(db.get('b'), { status: 404, reason: 'deleted' })
    const feed = await db.changes({ since: 0, include_docs: true, descending: true, limit: 1 })
    assert.equal(feed.results[0].id, 'b')
    assert.equal(feed.results[0].deleted, true)
    const some = await db.changes({ doc_ids: ['c'], include_docs: true })
    assert.deepEqual(some.results.map(r => r.id), ['c'])
    const bulk = await db.bulkGet({ docs: [{ id: 'c' }, { id: 'nope', rev: '1-abc' }] })
    assert.equal(bulk.results[0].docs[0].ok._id, 'c')
    assert.equal(bulk.results[1].docs[0].error.error, 'not_found')
  })

  test('a filtered pull by document IDs runs live', async () => {
    await gateway.createDatabase('some', { sync: ROUTE })
    await gateway.createUser('some', 'ann', ['*'])
    await gateway.admin_('POST', '/some/_bulk_docs', { docs: [{ _id: 'x' }, { _id: 'y' }, { _id: 'z' }] })
    const db = local()
    const live = db.replicate.from(remote(gateway.url('some', 'ann')), { live: true, retry: true, doc_ids: ['x', 'later'] })
    try {
      await until(db, async () => !(await missing(db, 'x')), 'x arrives')
      await gateway.admin_('PUT', '/some/later', { v: 1 })
      await until(db, async () => !(await missing(db, 'later')), 'a later one arrives')
      assert.deepEqual(Object.keys(await snapshot(db)).sort(), ['later', 'x'])
    } finally {
      live.cancel()
    }
  })
})

const sorted = docs => Object.keys(docs).sort().map(id => [id, docs[id]._rev, docs[id]._conflicts ?? []])
const missing = (db, id) => db.get(id).then(() => false, err => { if (err.status === 404) return true; throw err })

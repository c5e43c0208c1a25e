// Device sync's lifecycle as real Couchbase Lite (3.0.0, the newest that can be had) lives it: pauses, terminations, resets. The walk-throughs
// are those of device-sync.md §12.11.
import { test, before, after, describe } from 'node:test'
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { startGateway, PASSWORD } from './gateway.mjs'
import { startClient } from './cbl.mjs'
import { deviceSync, poll } from './devicesync.mjs'
import { startWire } from './wire.mjs'
import { makeDatabase, walk, agree, revisions } from './walkthrough.mjs'

let gateway
let client
let wire
before(async () => {
  [gateway, client] = await Promise.all([startGateway(), startClient()])
  wire = await startWire(gateway.public)
})
after(() => Promise.all([wire?.stop(), gateway?.stop(), client?.stop()]))

const ann = { user: 'ann', password: PASSWORD }
const live = { continuous: true, maxAttemptWait: 1 }

// Device is a local database with one replicator.
class Device {
  static async open (name, database, members = {}) {
    const device = new Device()
    device.db = await client.open(name)
    device.database = database
    device.replicator = await device.db.replicator(wire.ws(database), ann, members)
    return device
  }

  put (id, body) { return this.db.put(id, body) }
  patch (id, body) { return this.db.patch(id, body) }
  remove (id) { return this.db.delete(id) }
  async forget (id) { await this.db.put(id, {}); await this.db.purge(id) }
  get (id) { return this.db.get(id) }
  ids () { return this.db.ids() }

  // pushAndPull does so once, with a checkpoint that the device's live replicator has, too: one that stays open writes it seldom.
  async pushAndPull () { await (await this.db.replicator(wire.ws(this.database), ann)).run() }

  async sync () {
    const { pushed, pulled } = await this.replicator.run()
    return { pushed: pushed.filter(({ error }) => !error).map(({ doc }) => doc), pulled: pulled.map(({ doc }) => doc) }
  }
}

// asAnn makes one request as the device's user.
async function asAnn (method, path, body) {
  const res = await fetch(gateway.public + path, {
    method,
    headers: { 'content-type': 'application/json', authorization: 'Basic ' + Buffer.from(`ann:${PASSWORD}`).toString('base64') },
    body: body && JSON.stringify(body)
  })
  const text = await res.text()
  assert.ok(res.ok, `${method} ${path}: ${res.status} ${text}`)
  return JSON.parse(text)
}

// sinces are the positions that the pulls of one connection began with.
const sinces = ({ requests }) => requests.filter(({ Profile }) => Profile === 'subChanges').map(({ since }) => since)

// resetOnce checks that the one client of a database has reset, and why, and that nothing is left to do.
async function resetOnce (sync, reason) {
  const clients = await sync.clients()
  assert.deepEqual(clients.map(({ kind, user, reset, reason }) => ({ kind, user, reset, reason })), [{ kind: 'blip', user: 'ann', reset: 'done', reason }])
  assert.equal((await sync.lifecycle()).pending_reset_clients, 0)
}

describe('Couchbase Lite and device sync', { concurrency: false }, () => {
  test('D4 D5 D45 and walk-through 1: a pause while live, edits on both sides, a resume', async () => {
    await makeDatabase(gateway, 'pause')
    const sync = await deviceSync(gateway, 'pause')
    const config = await sync.config()
    const { epoch } = await sync.lifecycle()
    const device = await Device.open('pause', 'pause', live)
    const { db, replicator } = device
    await db.putMany({ prefix: 'old', count: 100, bytes: 10, body: { channels: ['one'] } })
    for (let i = 0; i < 2; i++) await device.pushAndPull() // the second one's pull passes by what the first one pushed
    await replicator.start()
    await replicator.reaches('idle')
    const [since] = sinces(wire.upgraded().at(-1))
    assert.ok(Number(since) > 0, `a pull that goes on from ${since}`)
    const open = wire.upgraded().at(-1)

    await sync.pause()
    assert.deepEqual(await sync.sessions(), [])
    const { error } = await replicator.reaches('offline')
    assert.ok([4001, 503].includes(error.code), JSON.stringify(error))
    assert.equal(open.serverClosed, 4001)
    // Edits on both sides. They wait.
    await db.put('mine', { channels: ['one'], v: 1 })
    await db.patch('old000001', { by: 'device' })
    await gateway.admin_('PUT', '/pause/theirs', { channels: ['one'], v: 1 })
    const doc = await gateway.admin_('GET', '/pause/old000002')
    await gateway.admin_('PUT', '/pause/old000002', { ...doc, by: 'server' })
    const refused = () => wire.connections.filter(({ status }) => status === 'HTTP/1.1 503 sync_paused').length
    await db.until(refused, 'a new connection is refused')
    assert.equal(wire.upgraded().at(-1), open)
    await gateway.admin_('GET', '/pause/mine', undefined, [404])
    assert.equal(await db.get('theirs'), null)
    assert.deepEqual((await replicator.pending()).sort(), ['mine', 'old000001'])

    await sync.resume()
    await db.until(async () => await db.get('theirs') && (await db.get('old000002')).by === 'server' && (await replicator.pending()).length === 0, 'both ways are open again')
    assert.equal((await gateway.admin_('GET', '/pause/mine')).v, 1)
    assert.equal((await gateway.admin_('GET', '/pause/old000001')).by, 'device')
    // It went on where it was: nothing that it had travelled again, and nobody reset.
    assert.deepEqual(sinces(wire.upgraded().at(-1)), [since])
    const now = await sync.lifecycle()
    assert.deepEqual(now.epoch, epoch)
    const { last_disabled: _, ...kept } = await sync.config()
    assert.deepEqual(kept, config)
    assert.deepEqual((await sync.clients()).map(({ reset }) => reset), [null])
    await replicator.stop()
    assert.deepEqual(replicator.pulled.map(({ doc }) => doc).sort(), ['old000002', 'theirs'])
    assert.deepEqual(replicator.pushed.map(({ doc }) => doc).sort(), ['mine', 'old000001'])
    await agree(gateway, 'pause', device)
    // A gateway that closed with 1000 or 1001 would end it for good; it only answers with what the client closed with.
    for (const { clientClosed, serverClosed } of wire.upgraded()) assert.ok(serverClosed === 4001 || serverClosed === clientClosed, `closed with ${serverClosed}`)
  })

  for (const [resolver, B, D] of [['default', null, null], ['merge', { server: 1, device: 1 }, { device: 1 }]]) {
    test(`D31 walk-throughs 2–9 and 12: terminated and enabled again, resolver ${resolver}`, async () => {
      const name = `walk-${resolver}`
      await makeDatabase(gateway, name)
      const sync = await deviceSync(gateway, name)
      const device = await Device.open(name, name, { resolver })
      const { after } = await walk(gateway, name, device, meanwhile => sync.again({}, meanwhile))
      // 4 and 6: what both sides edited, and what one edited and the other deleted, is as the device's resolver decides.
      if (B) {
        for (const [id, members] of [['B', B], ['D', D], ['D0', D]]) {
          assert.deepEqual({ ...await gateway.admin_('GET', `/${name}/${id}`), _id: 0, _rev: 0 }, { channels: ['one'], v: 0, ...members, _id: 0, _rev: 0 })
        }
      } else {
        assert.deepEqual([after.D, after.D0], [undefined, undefined], 'what was deleted came back')
      }
      // 12: the documents of the channel that was lost are gone from the device, and nowhere else.
      assert.ok(after.H1 && after.H2)
      await agree(gateway, name, device, ['H1', 'H2'])
      assert.deepEqual([await device.get('H1'), await device.get('H2')], [null, null])
      await resetOnce(sync, 'epoch_changed')
    })
  }

  test('D5 D31 terminated and enabled again under a live replicator: it starts again by itself', async () => {
    await makeDatabase(gateway, 'live')
    const sync = await deviceSync(gateway, 'live')
    const device = await Device.open('live', 'live', live)
    const { db, replicator } = device
    await db.putMany({ prefix: 'old', count: 100, bytes: 10, body: { channels: ['one'] } })
    await device.pushAndPull()
    await replicator.start()
    await replicator.reaches('idle')
    const open = wire.upgraded().at(-1)
    await sync.terminate()
    await replicator.reaches('offline')
    assert.equal(open.serverClosed, 4001)
    await db.patch('old000001', { by: 'device' })
    await db.delete('old000002')
    await db.put('mine', { channels: ['one'] })
    await gateway.admin_('PUT', '/live/theirs', { channels: ['one'] })
    const { _rev: rev } = await gateway.admin_('GET', '/live/old000003')
    await gateway.admin_('DELETE', `/live/old000003?rev=${rev}`)
    await db.until(() => wire.connections.some(({ status }) => status === 'HTTP/1.1 503 sync_terminated'), 'a new connection is refused')
    await sync.enable()
    await db.until(async () => await db.get('theirs') && await db.get('old000003') === null && (await replicator.pending()).length === 0, 'both ways are open again')
    await replicator.stop()
    assert.deepEqual(replicator.errors, [])
    assert.equal(await db.count(), 100)
    await agree(gateway, 'live', device)
    await resetOnce(sync, 'epoch_changed')
  })

  test('terminated_clients: "stop" ends a live replicator with 403', async () => {
    await makeDatabase(gateway, 'stop')
    const sync = await deviceSync(gateway, 'stop')
    await sync.patch({ terminated_clients: 'stop' })
    const device = await Device.open('stop', 'stop', live)
    await device.replicator.start()
    await device.replicator.reaches('idle')
    await sync.terminate()
    const { error } = await device.replicator.reaches('stopped')
    assert.deepEqual([error.domain, error.code], ['WebSocket', 4002])
    const { domain, code, message } = await device.replicator.fails()
    assert.deepEqual([domain, code], ['HTTP', 403])
    assert.match(message, /^sync_terminated/, 'the status line says why')
  })

  test('D31 a replicator that only pushes: what it can push arrives, and of a conflict it tells', async () => {
    await makeDatabase(gateway, 'push')
    const sync = await deviceSync(gateway, 'push')
    const device = await Device.open('push', 'push', { type: 'push' })
    for (const id of ['A', 'B', 'C']) await device.put(id, { channels: ['one'], v: 0 })
    await device.sync()
    for (const id of ['A', 'B']) await device.patch(id, { device: 1 })
    await device.put('F', { channels: ['one'] })
    const before = await revisions(gateway, 'push')
    await sync.again({}, async () => {
      const doc = await gateway.admin_('GET', '/push/B')
      await gateway.admin_('PUT', '/push/B', { ...doc, server: 1 })
    })
    await device.sync()
    assert.deepEqual([...new Set(device.replicator.errors.map(({ doc, error }) => `${doc} ${error.domain} ${error.code}`))], ['B HTTP 409'])
    const after = await revisions(gateway, 'push')
    assert.equal(after.C, before.C)
    assert.ok(after.F)
    assert.equal((await gateway.admin_('GET', '/push/A')).device, 1)
    const { server, device: none } = await gateway.admin_('GET', '/push/B')
    assert.deepEqual([server, none], [1, undefined])
  })

  test('D35 force_reset: one client resets, with all of the walk-throughs, and no other', async () => {
    await makeDatabase(gateway, 'forced')
    const sync = await deviceSync(gateway, 'forced')
    const [device, other] = [await Device.open('forced', 'forced', { resolver: 'merge' }), await Device.open('forced-other', 'forced')]
    const { after } = await walk(gateway, 'forced', device, async meanwhile => {
      const [{ file_ident: ident }] = await sync.clients()
      await other.sync()
      await meanwhile()
      await sync.forceReset(ident)
    })
    assert.ok(after.D && after.D0)
    const again = await other.sync()
    assert.ok(Number(sinces(wire.upgraded().at(-1))[0]) > 0, 'the other one goes on where it was')
    assert.ok(!again.pulled.some(id => id.startsWith('same')))
    assert.deepEqual((await sync.clients()).map(({ reset, reason }) => [reset, reason]), [['done', 'forced'], [null, '']])
    await agree(gateway, 'forced', device, ['H1', 'H2'])
    await agree(gateway, 'forced', other, ['H1', 'H2'])
  })

  test('D34 D39 and walk-through 11: recovery disabled, unsynced edits handed in, a new database', async () => {
    await makeDatabase(gateway, 'wipe')
    const sync = await deviceSync(gateway, 'wipe')
    const device = await Device.open('wipe', 'wipe')
    for (const id of ['A', 'B']) await device.put(id, { channels: ['one'], v: 0 })
    await device.sync()
    await device.patch('A', { device: 1 })
    await device.put('F', { channels: ['one'], v: 'new' })
    const checkpoint = wire.upgraded().at(-1).requests.find(({ Profile }) => Profile === 'getCheckpoint').client
    await sync.again({ is_recovery_mode_disabled: true })

    const verdict = await asAnn('GET', `/wipe/_sync?client=${encodeURIComponent(checkpoint)}`)
    assert.deepEqual([verdict.verdict, verdict.reason, verdict.recovery_allowed], ['reset_wipe', 'epoch_changed', false])
    const { domain, code } = await device.replicator.fails()
    assert.deepEqual([domain, code], ['HTTP', 410])
    assert.equal((await gateway.admin_('GET', '/wipe/A')).device, undefined)
    await gateway.admin_('GET', '/wipe/F', undefined, [404])
    // The recipe for applications: what is pending is handed in, the database deleted and made again.
    const pending = []
    for (const id of await device.replicator.pending()) if (await device.get(id)) pending.push(id) // G, whose deletion it pulled, is among them
    assert.deepEqual(pending.sort(), ['A', 'F'])
    const docs = await Promise.all(pending.map(async _id => ({ _id, _rev: await device.db.rev(_id), ...await device.get(_id) })))
    assert.deepEqual(await asAnn('POST', '/wipe/_sync/unsynced', { client: checkpoint, docs }), { accepted: 2 })
    assert.deepEqual((await sync.quarantine()).map(({ doc_id: doc, cause }) => `${doc} ${cause}`).sort(), ['A handed_in', 'F handed_in'])
    const fresh = await Device.open('wipe-again', 'wipe')
    await fresh.sync()
    await agree(gateway, 'wipe', fresh)
    // D38: what was handed in is restored, and arrives.
    for (const { id } of await sync.quarantine()) await sync.restoreQuarantined(id)
    await fresh.sync()
    await agree(gateway, 'wipe', fresh)
    assert.deepEqual([(await fresh.get('A')).device, (await fresh.get('F')).v], [1, 'new'])
    assert.deepEqual(await sync.quarantine(), [])
  })

  test('D36 restored from a backup: what was lost comes back from the devices', async () => {
    await makeDatabase(gateway, 'restored')
    const sync = await deviceSync(gateway, 'restored')
    const [x, y] = [await Device.open('restored-x', 'restored'), await Device.open('restored-y', 'restored')]
    await x.db.putMany({ prefix: 'old', count: 50, bytes: 10, body: { channels: ['one'] } })
    await x.sync()
    await y.sync()
    await gateway.loses(async () => {
      // The lost tail: an edit, a deletion and a new document of a device, and one document that was written on the server.
      await x.patch('old000001', { late: 1 })
      await x.remove('old000002')
      await x.put('late', { channels: ['one'] })
      await x.db.attach('late', 'pic', 7, 50_000, 'image/png')
      await x.sync()
      await gateway.admin_('PUT', '/restored/server', { channels: ['one'], late: 1 })
      await y.sync()
    })
    await sync.login()
    await gateway.admin_('GET', '/restored/late', undefined, [404])
    await gateway.admin_('GET', '/restored/server', undefined, [404])
    assert.equal((await sync.lifecycle()).epoch.reason, 'restored')
    for (const device of [x, y, x]) await device.sync()
    assert.equal((await gateway.admin_('GET', '/restored/old000001')).late, 1)
    await gateway.admin_('GET', '/restored/old000002', undefined, [404])
    assert.equal((await gateway.admin_('GET', '/restored/server')).late, 1)
    for (const device of [x, y]) await agree(gateway, 'restored', device)
    assert.equal(await x.db.count(), 51)
    const fresh = await Device.open('restored-fresh', 'restored')
    await fresh.sync()
    assert.equal((await fresh.db.blob('late', 'pic')).sha256, (await x.db.blob('late', 'pic')).sha256)
    // So has the new one: the restored gateway cannot know whether it was there in the time that was lost.
    assert.deepEqual((await sync.clients()).map(({ reset }) => reset), ['done', 'done', 'done'])
    // And it stays so.
    for (const device of [x, y]) assert.deepEqual(await device.sync(), { pushed: [], pulled: [] })
  })

  test('D36 a client that is cut off while it brings back what was lost brings back the rest later', async () => {
    const documents = 1000
    await makeDatabase(gateway, 'cutoff')
    const sync = await deviceSync(gateway, 'cutoff')
    const device = await Device.open('cutoff', 'cutoff', live)
    const { db, replicator } = device
    await gateway.loses(async () => {
      await db.putMany({ prefix: 'late', count: documents, bytes: 500, body: { channels: ['one'] } })
      await device.pushAndPull()
    })
    await replicator.start()
    const count = async () => Object.keys(await revisions(gateway, 'cutoff')).length
    await poll(count, 'the first documents are back')
    await gateway.kill()
    await gateway.restart()
    assert.ok(await count() < documents, 'cut off in the middle')
    await poll(async () => await count() === documents, 'all are back')
    await sync.login()
    assert.equal((await sync.clients())[0].reset, 'running')
    await replicator.reaches('idle')
    await replicator.stop()
    await poll(async () => (await sync.clients())[0].reset === 'done', 'its end was noted')
    await agree(gateway, 'cutoff', device)
  })

  test('D26 and walk-through 10: away longer than the limit; the others do not notice', async () => {
    await makeDatabase(gateway, 'away')
    const sync = await deviceSync(gateway, 'away')
    await sync.patch({ client_max_offline_days: 1 })
    const [device, other] = [await Device.open('away', 'away', { resolver: 'merge' }), await Device.open('away-other', 'away')]
    const { after } = await walk(gateway, 'away', device, async meanwhile => {
      await gateway.kill()
      await gateway.age('away', 2)
      await gateway.restart()
      await meanwhile()
      await other.sync()
      await sync.trim()
    })
    assert.ok(after.D && after.D0)
    const again = await other.sync()
    assert.ok(sinces(wire.upgraded().at(-1))[0], 'the other one goes on where it was')
    assert.ok(!again.pulled.some(id => id.startsWith('same')))
    assert.deepEqual((await sync.clients()).map(({ reset, reason }) => [reset, reason]), [['done', 'history_trimmed'], [null, '']])
    await agree(gateway, 'away', device, ['H1', 'H2'])
    await agree(gateway, 'away', other, ['H1', 'H2'])
  })

  test('D37 a first pull that takes longer than the time between two trims', async () => {
    const documents = 3000
    await makeDatabase(gateway, 'slow')
    const sync = await deviceSync(gateway, 'slow')
    await sync.patch({ client_max_offline_days: 1 })
    for (let from = 0; from < documents; from += 1000) {
      await gateway.admin_('POST', '/slow/_bulk_docs', { docs: Array.from({ length: 1000 }, (_, n) => ({ _id: `d${from + n}`, channels: ['one'], text: randomBytes(500).toString('base64') })) })
    }
    const { last_sequence: then } = await sync.lifecycle()
    await sync.trim()
    const { markers: [marker] } = await sync.lifecycle()
    const device = await Device.open('slow', 'slow', { type: 'pull' })
    wire.rate = 100
    await device.replicator.start()
    // It writes a checkpoint every few seconds.
    await poll(async () => (await sync.clients()).some(({ last_since: since }) => Number(since.split(':')[1]) > 100), 'a checkpoint in the middle')
    const { requests, answered } = wire.upgraded().at(-1)
    const told = () => requests.every(({ Profile, number }) => Profile !== 'setCheckpoint' || answered.has(number))
    // It has taken the answer in, too, when it has stored what came behind it: one that is stopped before does not know its checkpoint, and
    // begins anew.
    let behind = Infinity
    await poll(async () => {
      const stored = await device.db.count()
      behind = told() ? Math.min(behind, stored + 200) : Infinity
      return stored >= behind
    }, 'the checkpoint is answered')
    await device.replicator.stop()
    wire.rate = Infinity
    const half = await device.db.count()
    assert.ok(half > 0 && half < documents, `stopped in the middle, after ${half}`)
    await gateway.kill()
    await gateway.age('slow', 2, then)
    await gateway.restart()
    await sync.trim()
    const { history_floor: floor } = await sync.lifecycle()
    await device.replicator.run()
    const since = JSON.parse(sinces(wire.upgraded().at(-1))[0])
    assert.match(since, new RegExp(`^${marker}:`))
    assert.ok(Number(since.split(':')[1]) < floor, `the floor ${floor} is above the position ${since} of the pull`)
    assert.equal(await device.db.count(), documents)
    assert.ok(device.replicator.pulled.length <= documents - half, 'nothing came twice')
    assert.deepEqual((await sync.clients()).map(({ reset }) => reset), [null])
  })
})

// Device sync's lifecycle as real Couchbase Lite (3.0.0, the newest that can be had) lives it: pauses, terminations, resets. The walk-throughs
// are those of device-sync.md §12.11.
import { test, before, after, describe } from 'node:test'
import assert from 'node:assert/strict'
import { startGateway, PASSWORD } from './gateway.mjs'
import { startClient } from './cbl.mjs'
import { deviceSync } from './devicesync.mjs'
import { startWire } from './wire.mjs'
import { makeDatabase, walk, agree } from './walkthrough.mjs'

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
    device.replicator = await device.db.replicator(wire.ws(database), ann, members)
    return device
  }

  put (id, body) { return this.db.put(id, body) }
  patch (id, body) { return this.db.patch(id, body) }
  remove (id) { return this.db.delete(id) }
  get (id) { return this.db.get(id) }
  ids () { return this.db.ids() }

  async sync () {
    const { pushed, pulled } = await this.replicator.run()
    return { pushed: pushed.filter(({ error }) => !error).map(({ doc }) => doc), pulled: pulled.map(({ doc }) => doc) }
  }
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
    await replicator.start()
    await db.until(async () => replicator.status?.activity === 'idle' && (await replicator.pending()).length === 0, 'all is pushed')
    await replicator.stop() // writes the checkpoint
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
    for (const { serverClosed } of wire.upgraded()) assert.notEqual(serverClosed, 1001)
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
        for (const [id, members] of [['B', B], ['D', D]]) {
          assert.deepEqual({ ...await gateway.admin_('GET', `/${name}/${id}`), _id: 0, _rev: 0 }, { channels: ['one'], v: 0, ...members, _id: 0, _rev: 0 })
        }
      } else {
        assert.equal(after.D, undefined, 'D came back')
      }
      // 12: the documents of the channel that was lost are gone from the device, and nowhere else.
      assert.ok(after.H1 && after.H2)
      await agree(gateway, name, device, ['H1', 'H2'])
      assert.deepEqual([await device.get('H1'), await device.get('H2')], [null, null])
      await resetOnce(sync, 'epoch_changed')
    })
  }
})

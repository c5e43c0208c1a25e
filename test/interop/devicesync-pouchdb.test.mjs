// Device sync's lifecycle as real PouchDB lives it: with checkpoints on both sides (its default), on one side only, and under the address of the
// app. The walk-throughs are those of device-sync.md §12.11.
import { test, before, after, describe } from 'node:test'
import assert from 'node:assert/strict'
import { startGateway } from './gateway.mjs'
import { deviceSync, poll } from './devicesync.mjs'
import { local, remote, until } from './pouch.mjs'
import { makeDatabase, walk, agree } from './walkthrough.mjs'

let gateway
before(async () => { gateway = await startGateway() })
after(() => gateway?.stop())

// How a device's replications keep their checkpoints, and where they find the database.
const KINDS = {
  'both checkpoints': {},
  "checkpoint: 'target'": { checkpoint: 'target' },
  "checkpoint: 'source'": { checkpoint: 'source' },
  'under the app, both checkpoints': { app: true },
  "under the app, checkpoint: 'target'": { app: true, checkpoint: 'target' },
  "under the app, checkpoint: 'source'": { app: true, checkpoint: 'source' }
}

// Device is a local database that replicates with a database of the gateway.
class Device {
  requests = [] // paths that it asked for, with their queries
  resets = [] // reasons of rewound feeds

  constructor (sync, { app = false, ...options } = {}) {
    this.db = local()
    const url = gateway.url(app ? `_app/${sync.clientAppId}/${sync.database}` : sync.database, 'ann')
    this.server = remote(url, (path, res) => this.#note(path, res))
    this.options = options
  }

  #note (path, res) {
    this.requests.push(path)
    const reset = res.headers.get('x-tidegate-client-reset')
    if (reset) this.resets.push(reset)
  }

  async put (_id, body) { await this.db.put({ ...body, _id }) }
  async patch (id, body) { await this.db.put({ ...await this.db.get(id), ...body }) }
  async remove (id) { await this.db.remove(await this.db.get(id)) }
  async ids () { return (await this.db.allDocs()).rows.map(({ id }) => id) }

  async get (id) {
    try {
      const { _id, _rev, _attachments, ...body } = await this.db.get(id)
      return body
    } catch (err) {
      if (err.status === 404) return null
      throw err
    }
  }

  // since is where the first pull of the noted requests began.
  since () {
    const sinces = this.requests.map(path => /_changes\?.*\bsince=([^&]*)/.exec(path)?.[1]).filter(since => since !== undefined)
    return sinces[0] && decodeURIComponent(sinces[0])
  }

  // live replicates both ways until it is cancelled. It tells which ways were refused, and what was moved.
  live () {
    const live = this.db.sync(this.server, { live: true, retry: true, back_off_function: () => 50, heartbeat: 1000 })
    live.refused = new Set()
    live.moved = { push: [], pull: [] }
    for (const way of ['push', 'pull']) live[way].on('paused', err => { if (err) live.refused.add(way) })
    live.on('change', ({ direction, change }) => live.moved[direction].push(...change.docs.map(({ _id }) => _id)))
    return live
  }

  // sync pushes, and then pulls.
  async sync () {
    const run = replication => new Promise((resolve, reject) => {
      const ids = []
      replication.on('change', ({ docs }) => ids.push(...docs.map(({ _id }) => _id)))
      replication.on('complete', result => result.doc_write_failures ? reject(new Error(JSON.stringify(result))) : resolve(ids)).on('error', reject)
    })
    const pushed = await run(this.db.replicate.to(this.server, this.options))
    const pulled = await run(this.db.replicate.from(this.server, this.options))
    return { pushed, pulled }
  }
}

describe('PouchDB and device sync', { concurrency: false }, () => {
  for (const [kind, options] of Object.entries(KINDS)) {
    test(`D32 walk-throughs 2–9: terminated and enabled again, ${kind}`, async () => {
      const name = `walk-${Object.keys(KINDS).indexOf(kind)}`
      await makeDatabase(gateway, name)
      const sync = await deviceSync(gateway, name)
      const device = new Device(sync, options)
      const { after } = await walk(gateway, name, device, meanwhile => sync.again({}, meanwhile))
      // 4: without conflicts the server's branch wins, and what the device wrote is in quarantine.
      assert.equal((await gateway.admin_('GET', `/${name}/B`)).server, 1)
      // 6: so is the edit of what was deleted before the termination. What was deleted after it has its tombstone: where the device cannot be
      // recognised as one of before, CouchDB's rule holds, by which the edit lives.
      assert.equal(after.D0, undefined)
      const recognised = !options.app && options.checkpoint !== 'source'
      if (recognised) assert.equal(after.D, undefined)
      else assert.equal((await gateway.admin_('GET', `/${name}/D`)).device, 1)
      assert.deepEqual((await sync.quarantine()).map(({ doc_id: doc, cause }) => `${doc} ${cause}`).sort(),
        ['B closed_branch', ...(recognised ? ['D edit_of_deleted'] : []), 'D0 edit_of_deleted'])
      await agree(gateway, name, device, ['H1', 'H2'])
    })
  }

  test('D5 and walk-through 1: a pause while live, edits on both sides, a resume', async () => {
    await makeDatabase(gateway, 'pause')
    const sync = await deviceSync(gateway, 'pause')
    const device = new Device(sync)
    for (let n = 0; n < 50; n++) await device.put(`old${n}`, { channels: ['one'] })
    await device.sync()
    device.requests.length = 0
    await device.sync()
    const { epoch } = await sync.lifecycle()
    const since = device.since()
    const live = device.live()
    try {
      await poll(async () => (await sync.sessions()).length > 0, 'the live feed is there')
      await sync.pause()
      await device.put('mine', { channels: ['one'] })
      await gateway.admin_('PUT', '/pause/theirs', { channels: ['one'] })
      await poll(async () => await sync.lifecycle() && live.refused.size === 2, 'both ways are refused')
      await gateway.admin_('GET', '/pause/mine', undefined, [404])
      assert.equal(await device.get('theirs'), null)
      device.requests.length = 0
      await sync.resume()
      await until(device.db, async () => await device.get('theirs'), 'the pull goes on')
      await poll(async () => (await sync.clients()).length && (await gateway.admin_('GET', '/pause/mine', undefined, [200, 404]))._rev, 'the push goes on')
    } finally {
      live.cancel()
    }
    assert.ok(device.since(), 'the pull goes on where it was')
    assert.equal(device.since(), since)
    assert.deepEqual(live.moved, { push: ['mine'], pull: ['theirs'] })
    assert.deepEqual((await sync.lifecycle()).epoch, epoch)
    assert.deepEqual((await sync.clients()).map(({ reset }) => reset).filter(reset => reset), [])
    await agree(gateway, 'pause', device)
  })

  test('D5 D32 terminated and enabled again under a live replication: it starts again by itself', async () => {
    await makeDatabase(gateway, 'live')
    const sync = await deviceSync(gateway, 'live')
    const device = new Device(sync)
    for (let n = 0; n < 20; n++) await device.put(`old${n}`, { channels: ['one'] })
    const live = device.live()
    try {
      await poll(async () => (await sync.sessions()).length > 0 && (await gateway.admin_('GET', '/live/old19', undefined, [200, 404]))._rev, 'all is pushed')
      await sync.again({}, async () => {
        await device.patch('old1', { by: 'device' })
        await device.remove('old2')
        await device.put('mine', { channels: ['one'] })
        await gateway.admin_('PUT', '/live/theirs', { channels: ['one'] })
        const { _rev: rev } = await gateway.admin_('GET', '/live/old3')
        await gateway.admin_('DELETE', `/live/old3?rev=${rev}`)
        await poll(async () => await sync.lifecycle() && live.refused.size === 2, 'both ways are refused')
      })
      await until(device.db, async () => await device.get('theirs') && await device.get('old3') === null, 'the pull goes on')
      await poll(async () => (await gateway.admin_('GET', '/live/mine', undefined, [200, 404]))._rev, 'the push goes on')
    } finally {
      live.cancel()
    }
    await device.sync()
    await agree(gateway, 'live', device)
    assert.equal((await device.ids()).length, 20)
    assert.equal((await gateway.admin_('GET', '/live/old1')).by, 'device')
  })

  test('terminated_clients: "stop" ends a live replication', async () => {
    await makeDatabase(gateway, 'stop')
    const sync = await deviceSync(gateway, 'stop')
    await sync.patch({ terminated_clients: 'stop' })
    const device = new Device(sync)
    const pull = device.db.replicate.from(device.server, { live: true, retry: true, back_off_function: () => 50 })
    const ended = new Promise((resolve, reject) => pull.on('error', resolve).on('complete', reject))
    await poll(async () => (await sync.sessions()).length > 0, 'the live feed is there')
    await sync.terminate()
    const { status, reason } = await ended
    assert.equal(status, 403)
    assert.match(reason, /^sync_terminated/)
  })

  test('reset_deleted_edits: "edit_wins" keeps edits of what was deleted', async () => {
    await makeDatabase(gateway, 'edits')
    const sync = await deviceSync(gateway, 'edits')
    const device = new Device(sync)
    await device.put('D', { channels: ['one'], v: 0 })
    await device.sync()
    await device.patch('D', { device: 1 })
    const { _rev: rev } = await gateway.admin_('GET', '/edits/D')
    await gateway.admin_('DELETE', `/edits/D?rev=${rev}`)
    await sync.again({ reset_deleted_edits: 'edit_wins' })
    for (let i = 0; i < 2; i++) await device.sync()
    assert.equal((await gateway.admin_('GET', '/edits/D')).device, 1)
    await agree(gateway, 'edits', device)
    assert.deepEqual(await sync.quarantine(), [])
  })

  test('D37 a first pull that takes longer than the time between two trims', async () => {
    await makeDatabase(gateway, 'slow')
    const sync = await deviceSync(gateway, 'slow')
    await sync.patch({ client_max_offline_days: 1 })
    await gateway.admin_('POST', '/slow/_bulk_docs', { docs: Array.from({ length: 500 }, (_, n) => ({ _id: `d${n}`, channels: ['one'] })) })
    const { last_sequence: then } = await sync.lifecycle()
    await sync.trim()
    const { markers: [marker] } = await sync.lifecycle()
    const device = new Device(sync, { batch_size: 100 })
    await new Promise((resolve, reject) => {
      const pull = device.db.replicate.from(device.server, device.options)
      let batches = 0
      pull.on('change', () => { if (++batches === 2) pull.cancel() }).on('complete', resolve).on('error', reject) // the first one's checkpoint is written
    })
    const half = (await device.ids()).length
    assert.ok(half > 0 && half < 500, `stopped in the middle, after ${half}`)
    await gateway.kill()
    await gateway.age('slow', 2, then)
    await gateway.restart()
    await sync.trim()
    device.requests.length = 0
    await device.sync()
    const since = device.since()
    assert.match(since, new RegExp(`^${marker}:`))
    assert.ok(Number(since.split(':')[1]) < (await sync.lifecycle()).history_floor)
    assert.deepEqual(device.resets, [])
    assert.equal((await device.ids()).length, 500)
  })

  test('D34 and walk-through 11: recovery disabled, unsynced edits handed in, a new database', async () => {
    await makeDatabase(gateway, 'wipe')
    const sync = await deviceSync(gateway, 'wipe')
    const device = new Device(sync)
    await device.put('A', { channels: ['one'], v: 0 })
    await device.sync()
    await device.patch('A', { device: 1 })
    await sync.again({ is_recovery_mode_disabled: true })
    for (const way of ['to', 'from']) {
      const error = await new Promise((resolve, reject) => device.db.replicate[way](device.server, { live: true, retry: true }).on('error', resolve).on('complete', reject))
      assert.deepEqual([error.status, error.name.toLowerCase()], [403, 'forbidden'], way)
      assert.match(error.reason, /^client_reset_required: epoch_changed/)
    }
    assert.equal((await gateway.admin_('GET', '/wipe/A')).device, undefined)
    const client = device.requests.map(path => /_local\/([^/?]+)/.exec(path)?.[1]).find(id => id)
    const { rows } = await device.db.allDocs({ include_docs: true })
    const res = await device.server.fetch('_sync/unsynced', { method: 'POST', body: JSON.stringify({ client: decodeURIComponent(client), docs: rows.map(({ doc }) => doc) }), headers: new Headers({ 'content-type': 'application/json' }) })
    assert.deepEqual([res.status, await res.json()], [202, { accepted: 1 }])
    assert.deepEqual((await sync.quarantine()).map(({ doc_id: doc, cause }) => `${doc} ${cause}`), ['A handed_in'])
    await device.db.destroy()
    const fresh = new Device(sync)
    await fresh.sync()
    await agree(gateway, 'wipe', fresh)
  })

  for (const [kind, options] of [['both checkpoints', {}], ["under the app, checkpoint: 'source'", { app: true, checkpoint: 'source' }]]) {
    test(`D36 restored from a backup: what was lost comes back from the devices, ${kind}`, async () => {
      const name = options.app ? 'restored-app' : 'restored'
      await makeDatabase(gateway, name)
      const sync = await deviceSync(gateway, name)
      const [x, y] = [new Device(sync, options), new Device(sync, options)]
      for (let n = 0; n < 20; n++) await x.put(`old${n}`, { channels: ['one'] })
      for (const device of [x, y]) await device.sync()
      await gateway.loses(async () => {
        await x.patch('old1', { late: 1 })
        await x.remove('old2')
        await x.put('late', { channels: ['one'] })
        await x.db.putAttachment('late', 'note', (await x.db.get('late'))._rev, Buffer.from('a note '.repeat(5000)), 'text/plain')
        await x.sync()
        await gateway.admin_('PUT', `/${name}/server`, { channels: ['one'], late: 1 })
        await y.sync()
      })
      await gateway.admin_('GET', `/${name}/late`, undefined, [404])
      for (const device of [x, y, x]) await device.sync()
      assert.equal((await gateway.admin_('GET', `/${name}/old1`)).late, 1)
      await gateway.admin_('GET', `/${name}/old2`, undefined, [404])
      assert.equal((await gateway.admin_('GET', `/${name}/server`)).late, 1)
      for (const device of [x, y]) await agree(gateway, name, device)
      const fresh = new Device(sync, options)
      await fresh.sync()
      assert.equal(String(await fresh.db.getAttachment('late', 'note')), 'a note '.repeat(5000))
    })
  }

  test('D35 force_reset of one client, and D26 away longer than the limit', async () => {
    await makeDatabase(gateway, 'reset')
    const sync = await deviceSync(gateway, 'reset')
    await sync.patch({ client_max_offline_days: 1 })
    const [device, other] = [new Device(sync), new Device(sync)]
    await walk(gateway, 'reset', device, async meanwhile => {
      await other.sync()
      await meanwhile()
      for (const { file_ident: ident } of (await sync.clients()).slice(0, 2)) await sync.forceReset(ident) // its push, and its pull
    })
    assert.deepEqual((await sync.clients()).map(({ reset }) => reset), ['done', 'done', null, null])
    assert.ok(!(await other.sync()).pulled.some(id => id.startsWith('same')))
    for (const one of [device, other]) await agree(gateway, 'reset', one, ['H1', 'H2'])
    // Two days pass for one of them.
    device.resets.length = 0
    await device.put('offline', { channels: ['one'] })
    const { _rev: rev } = await gateway.admin_('GET', '/reset/A')
    await gateway.admin_('DELETE', `/reset/A?rev=${rev}`)
    await gateway.kill()
    await gateway.age('reset', 2)
    await gateway.restart()
    await other.sync()
    await sync.trim()
    await device.sync()
    await other.sync()
    assert.deepEqual([device.resets, other.resets], [['history_trimmed'], []], 'the feed of one was rewound')
    assert.equal(await device.get('A'), null)
    assert.ok(await other.get('offline'))
    for (const one of [device, other]) await agree(gateway, 'reset', one, ['H1', 'H2'])
  })
})

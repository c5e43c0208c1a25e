// Device sync's lifecycle as real PouchDB lives it: with checkpoints on both sides (its default), on one side only, and under the address of the
// app. The walk-throughs are those of device-sync.md §12.11.
import { test, before, after, describe } from 'node:test'
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startGateway, PASSWORD } from './gateway.mjs'
import { deviceSync } from './devicesync.mjs'
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

  constructor (sync, { app = false, ...options } = {}) {
    this.db = local()
    const url = gateway.url(app ? `_app/${sync.clientAppId}/${sync.database}` : sync.database, 'ann')
    this.server = remote(url, (path, ...rest) => { this.requests.push(String(path)); return fetch(path, ...rest) })
    this.options = options
  }

  async put (_id, body) { await this.db.put({ ...body, _id }) }
  async patch (id, body) { await this.db.put({ ...await this.db.get(id), ...body }) }
  async remove (id) { await this.db.remove(await this.db.get(id)) }
  async ids () { return (await this.db.allDocs()).rows.map(({ id }) => id) }

  async get (id) {
    try {
      const { _id, _rev, ...body } = await this.db.get(id)
      return body
    } catch (err) {
      if (err.status === 404) return null
      throw err
    }
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
})

// CouchDB's replicator and device sync's epochs. CouchDB itself cannot be installed from where this project takes its tests, so this takes the
// steps that its replicator (3.3 and later) takes: it looks for its checkpoint on both sides, compares instance_start_time around each
// one, and starts over when it has changed. The target is a PouchDB database.
import { test, before, after } from 'node:test'
import assert from 'node:assert/strict'
import { startGateway, PASSWORD } from './gateway.mjs'
import { deviceSync } from './devicesync.mjs'
import { local } from './pouch.mjs'
import { makeDatabase } from './walkthrough.mjs'

let gateway
before(async () => { gateway = await startGateway() })
after(() => gateway?.stop())

// Replicator pulls from a database of the gateway as CouchDB does.
class Replicator {
  target = local()
  starts = [] // the positions that its runs began at
  #id = 'couch-replication-1'
  #local // its checkpoint on the target

  constructor (name) { this.name = name }

  async #ask (method, path, body) {
    const res = await fetch(`${gateway.public}/${this.name}${path}`, {
      method,
      headers: {
        'user-agent': 'CouchDB-Replicator/3.3.3',
        authorization: 'Basic ' + Buffer.from(`ann:${PASSWORD}`).toString('base64'),
        'content-type': 'application/json',
        accept: 'application/json'
      },
      body: body && JSON.stringify(body)
    })
    return { status: res.status, answer: await res.json() }
  }

  async #info () {
    const { status, answer } = await this.#ask('GET', '/')
    assert.equal(status, 200)
    return answer
  }

  // run makes one run until nothing is left. Refusals are thrown: the job crashes, and is started again later.
  async run () {
    const { instance_start_time: started } = await this.#info()
    const remote = await this.#ask('GET', `/_local/${this.#id}`)
    assert.ok([200, 404].includes(remote.status), `GET _local: ${remote.status} ${JSON.stringify(remote.answer)}`)
    const common = remote.status === 200 && this.#local?.session_id === remote.answer.session_id
    let since = common ? this.#local.source_last_seq : 0
    this.starts.push(since)
    let rev = remote.status === 200 ? remote.answer._rev : undefined
    let moved = 0
    for (;;) {
      const { status, answer: page } = await this.#ask('GET', `/_changes?style=all_docs&limit=100&since=${encodeURIComponent(since)}`)
      assert.equal(status, 200, JSON.stringify(page))
      if (page.results.length === 0) return moved
      moved += await this.#take(page.results)
      since = page.last_seq
      // The checkpoint, on both sides, unless the source has begun anew meanwhile.
      const commit = await this.#ask('POST', '/_ensure_full_commit')
      assert.equal(commit.status, 201)
      if (String(commit.answer.instance_start_time) !== String(started)) throw new Error('instance_start_time on source database has changed since last checkpoint')
      const checkpoint = { session_id: `session-${this.starts.length}`, source_last_seq: since, history: [], replication_id_version: 4 }
      const put = await this.#ask('PUT', `/_local/${this.#id}`, { ...checkpoint, ...(rev && { _rev: rev }) })
      assert.equal(put.status, 201, JSON.stringify(put.answer))
      rev = put.answer.rev
      this.#local = checkpoint
    }
  }

  // #take copies what the target does not have.
  async #take (results) {
    const rows = results.filter(({ id }) => !id.startsWith('_user/'))
    const missing = await this.target.revsDiff(Object.fromEntries(rows.map(({ id, changes }) => [id, changes.map(({ rev }) => rev)])))
    const docs = Object.entries(missing).flatMap(([id, { missing }]) => missing.map(rev => ({ id, rev })))
    if (docs.length === 0) return 0
    const { status, answer } = await this.#ask('POST', '/_bulk_get?revs=true', { docs })
    assert.equal(status, 200)
    await this.target.bulkDocs(answer.results.flatMap(({ docs }) => docs.map(({ ok }) => ok)), { new_edits: false })
    return docs.length
  }
}

async function startTime (name) { return (await gateway.admin_('GET', `/${name}/`)).instance_start_time }

test('D33 CouchDB starts over in a new epoch, and only then, and is never told to discard its database', async () => {
  await makeDatabase(gateway, 'couch')
  await gateway.admin_('POST', '/couch/_bulk_docs', { docs: Array.from({ length: 250 }, (_, n) => ({ _id: `d${n}`, channels: ['one'] })) })
  const sync = await deviceSync(gateway, 'couch')
  const replicator = new Replicator('couch')
  assert.equal(await replicator.run(), 251) // and the deletion of G
  const started = await startTime('couch')
  // Neither a pause nor a restart is a new beginning.
  await sync.pause()
  await assert.rejects(replicator.run(), /503/)
  await sync.resume()
  await gateway.kill()
  await gateway.restart()
  assert.equal(await startTime('couch'), started)
  await gateway.admin_('PUT', '/couch/while-paused', { channels: ['one'] })
  assert.equal(await replicator.run(), 1)
  assert.notEqual(replicator.starts.at(-1), 0, 'it went on where it was')
  // A termination is. Devices must discard what they have; CouchDB is not a device.
  const { _rev: rev } = await gateway.admin_('GET', '/couch/d1')
  await sync.again({ is_recovery_mode_disabled: true }, () => gateway.admin_('DELETE', `/couch/d1?rev=${rev}`))
  assert.notEqual(await startTime('couch'), started)
  assert.equal(await replicator.run(), 1)
  assert.equal(replicator.starts.at(-1), 0, 'it started over')
  await assert.rejects(replicator.target.get('d1'), { status: 404 })
  assert.equal((await replicator.target.allDocs()).rows.length, 250)
  assert.equal(await replicator.run(), 0)
  assert.notEqual(replicator.starts.at(-1), 0)
})

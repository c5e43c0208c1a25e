// The walk-throughs of device-sync.md §12.11 for one device, whatever it is made of and whatever makes it start again: what is the same on
// both sides, and what was edited, deleted or created on either side meanwhile.
import assert from 'node:assert/strict'

const SAME = 50
const same = Array.from({ length: SAME }, (_, n) => `same-${String(n).padStart(2, '0')}`)
const one = { channels: ['one'] }
const two = { channels: ['two'] }

export const ROUTE = 'function (doc) { channel(doc.channels); }'

// makeDatabase makes one on the gateway with ann, who reads both channels. G was there long ago.
export async function makeDatabase (gateway, name, config = {}) {
  await gateway.createDatabase(name, { sync: ROUTE, ...config })
  await gateway.createUser(name, 'ann', ['one', 'two'])
  const { rev } = await gateway.admin_('PUT', `/${name}/G`, { ...one, v: 'long ago' })
  await gateway.admin_('DELETE', `/${name}/G?rev=${rev}`)
}

// revisions are the current revisions of a database: those of documents that are not deleted.
export async function revisions (gateway, name) {
  const { rows } = await gateway.admin_('GET', `/${name}/_all_docs`)
  return Object.fromEntries(rows.map(({ id, value }) => [id, value.rev]))
}

async function edit (gateway, name, id, change) {
  const { _id, ...doc } = await gateway.admin_('GET', `/${name}/${id}`)
  await gateway.admin_('PUT', `/${name}/${id}`, { ...doc, ...change })
}

async function remove (gateway, name, id) {
  const { _rev: rev } = await gateway.admin_('GET', `/${name}/${id}`)
  await gateway.admin_('DELETE', `/${name}/${id}?rev=${rev}`)
}

// walk takes a device through all of it. cause(meanwhile) makes the device start again, and calls meanwhile when it has no connection. It
// returns what the device's runs tell. A device has put, patch, remove, get, ids and sync (once both ways).
export async function walk (gateway, name, device, cause) {
  for (const id of ['A', 'B', 'C', 'D', 'D0', 'E', ...same]) await device.put(id, { ...one, v: 0 })
  for (const id of ['H1', 'H2']) await device.put(id, { ...two, v: 0 })
  await device.sync()
  const before = await revisions(gateway, name)
  assert.deepEqual(Object.keys(before).sort(), ['A', 'B', 'C', 'D', 'D0', 'E', 'H1', 'H2', ...same])

  await device.patch('A', { device: 1 })
  await device.patch('B', { device: 1 })
  for (const id of ['D', 'D0']) await device.patch(id, { device: 1 })
  await device.remove('E')
  await device.put('F', { ...one, v: 'new' })
  await device.forget?.('G') // otherwise the new one would be a child of the deletion that it pulled
  await device.put('G', { ...one, v: 'new' })
  await remove(gateway, name, 'D0') // before what makes the device start again; D is deleted after it
  await cause(async () => {
    await edit(gateway, name, 'B', { server: 1 })
    await remove(gateway, name, 'C')
    await remove(gateway, name, 'D')
    await gateway.createUser(name, 'ann', ['one'])
  })

  // What a conflict was resolved to is pushed by the run after it. The last run moves nothing.
  const runs = []
  do runs.push(await device.sync()); while (runs.at(-1).pushed.length + runs.at(-1).pulled.length > 0 && runs.length < 8)
  assert.deepEqual(runs.at(-1), { pushed: [], pulled: [] }, 'the device settles')
  const after = await revisions(gateway, name)
  const moved = [...runs.flatMap(({ pulled }) => pulled)]
  // 2: no body of what is the same on both sides travels, and none becomes a revision.
  assert.deepEqual(moved.filter(id => same.includes(id)), [], 'documents that were the same travelled')
  for (const id of same) assert.equal(after[id], before[id], id)
  // 3: the edit of what the server left alone arrives, as a child of what was there.
  assert.equal((await gateway.admin_('GET', `/${name}/A`)).device, 1)
  assert.match(after.A, /^2-/)
  // 5: what the server deleted does not come back.
  assert.equal(after.C, undefined)
  assert.equal(await device.get('C'), null)
  // 7: a deletion on the device is one on the server.
  assert.equal(after.E, undefined)
  // 8 and 9: what is new arrives, also under the name of what is long gone.
  assert.equal((await gateway.admin_('GET', `/${name}/F`)).v, 'new')
  assert.equal((await gateway.admin_('GET', `/${name}/G`)).v, 'new')
  return { runs, before, after }
}

// agree checks that a device holds just what the server has for ann, with the same bodies.
export async function agree (gateway, name, device, except = []) {
  const { rows } = await gateway.admin_('GET', `/${name}/_all_docs?include_docs=true`)
  const docs = rows.map(({ doc }) => doc).filter(({ _id }) => !except.includes(_id))
  assert.deepEqual((await device.ids()).filter(id => !except.includes(id)).sort(), docs.map(({ _id }) => _id).sort())
  for (const { _id, _rev, _attachments, ...body } of docs) assert.deepEqual(await device.get(_id), body, _id)
}

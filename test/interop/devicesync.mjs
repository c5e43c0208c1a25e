// Drives device sync of a database through the App Services Admin API, as an operator's program does: an API key logs in, the app of the
// database and its service are found, and the flexible_sync part of the config is patched.
import assert from 'node:assert/strict'

// A configuration with which sync can be enabled again after a termination.
export const config = (database, more = {}) => ({ database_name: database, client_max_offline_days: 30, is_recovery_mode_disabled: false, ...more })

// deviceSync logs in at a gateway and returns the device sync of one of its databases.
export async function deviceSync (gateway, database) {
  const { public_key: username, private_key: apiKey } = await gateway.admin_('POST', '/_admin_api_keys', { name: database })
  const sync = new DeviceSync(gateway, database, { username, apiKey })
  await sync.login()
  return sync
}

// poll asks again and again until it gets something true.
export async function poll (ask, what, ms = 60_000) {
  for (const deadline = Date.now() + ms; ;) {
    const answer = await ask()
    if (answer) return answer
    if (Date.now() > deadline) throw new Error(`not within ${ms} ms: ${what}`)
  }
}

class DeviceSync {
  #gateway
  #app // its path
  #service // its path
  #key
  #token

  constructor (gateway, database, key) {
    this.#gateway = gateway
    this.#key = key
    this.database = database
  }

  // login begins a session. Sessions do not outlive a restore.
  async login () {
    const { access_token: token } = await this.#call('POST', '/auth/providers/mongodb-cloud/login', this.#key)
    this.#token = token
    const { roles: [{ group_id: group }] } = await this.#call('GET', '/auth/profile')
    const apps = await this.#call('GET', `/groups/${group}/apps`)
    const app = apps.find(({ name }) => name === this.database)
    this.clientAppId = app.client_app_id
    this.#app = `/groups/${group}/apps/${app._id}`
    const [service] = await this.#call('GET', `${this.#app}/services`)
    this.#service = `${this.#app}/services/${service._id}`
  }

  // #call makes one request, and fails on any status that says that it was refused.
  async #call (method, path, body) {
    const { status, answer } = await this.#ask(method, path, body)
    assert.ok(status < 300, `${method} ${path}: ${status} ${JSON.stringify(answer)}`)
    return answer
  }

  async #ask (method, path, body) {
    const res = await fetch(`${this.#gateway.admin}/api/admin/v3.0${path}`, {
      method,
      headers: { 'content-type': 'application/json', ...(this.#token && { authorization: `Bearer ${this.#token}` }) },
      body: body === undefined ? undefined : JSON.stringify(body)
    })
    const text = await res.text()
    return { status: res.status, answer: text ? JSON.parse(text) : null }
  }

  // patch changes members of flexible_sync.
  patch (members) { return this.#call('PATCH', `${this.#service}/config`, { flexible_sync: members }) }
  async config () { return (await this.#call('GET', `${this.#service}/config`)).flexible_sync }
  async state () { return (await this.#call('GET', `${this.#app}/sync/state?sync_type=flexible`)).state }

  // pause returns when no session is left.
  async pause () {
    await this.patch({ state: 'disabled' })
    await poll(async () => (await this.lifecycle()).phase === 'steady', `${this.database} is paused`)
  }

  resume () { return this.patch({ state: 'enabled' }) }

  // terminate returns when the termination has finished.
  async terminate () {
    await this.patch({ state: '' })
    await this.terminated()
  }

  terminated () { return poll(async () => await this.state() === '', `${this.database} is terminated`) }

  // enable configures sync again after a termination.
  enable (more) { return this.patch({ state: 'enabled', ...config(this.database, more) }) }

  // again terminates and enables, with what else is to happen while sync is terminated.
  async again (more, between = async () => {}) {
    await this.terminate()
    await between()
    await this.enable(more)
  }

  lifecycle () { return this.#call('GET', `${this.#app}/sync/lifecycle`) }
  clients () { return this.#call('GET', `${this.#app}/sync/clients`) }
  sessions () { return this.#call('GET', `${this.#app}/sync/sessions`) }
  forceReset (fileIdent) { return this.#call('PUT', `${this.#app}/sync/force_reset`, { file_ident: fileIdent }) }
  resetAll (reason) { return this.#call('POST', `${this.#app}/sync/reset_all`, { reason }) }
  trim () { return this.#call('POST', `${this.#app}/sync/trim`) }
  quarantine () { return this.#call('GET', `${this.#app}/sync/quarantine`) }
  quarantined (id) { return this.#call('GET', `${this.#app}/sync/quarantine/${id}`) }
  restoreQuarantined (id) { return this.#call('POST', `${this.#app}/sync/quarantine/${id}/restore`) }
}

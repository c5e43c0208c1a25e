// A wire between a client and a gateway that a test can read: a TCP proxy that passes everything on as it is and notes, for each WebSocket
// connection, the answer to its upgrade, the BLIP requests that the client sent, and the close codes of both sides.
import { createServer, connect } from 'node:net'

const COMPRESSED = 0x08
const TYPE = 0x07 // 0: a request
const REPLY = 1
const CLOSE = 8

// startWire listens in front of the address of a gateway, like http://127.0.0.1:4984.
export async function startWire (address) {
  const { hostname, port } = new URL(address)
  const wire = { connections: [], rate: Infinity } // rate: bytes from the gateway in a millisecond
  const sockets = new Set()
  const server = createServer(client => {
    const upstream = connect({ host: hostname, port })
    const connection = { status: '', requests: [], last: 0, answered: new Set(), clientClosed: 0, serverClosed: 0 }
    wire.connections.push(connection)
    const fromClient = new Frames(() => {}, code => { connection.clientClosed = code }, frame => noteRequest(connection, frame))
    const fromServer = new Frames(head => { connection.status = head.split('\r\n', 1)[0] }, code => { connection.serverClosed = code }, frame => noteReply(connection, frame))
    for (const [from, to, frames] of [[client, upstream, fromClient], [upstream, client, fromServer]]) {
      sockets.add(from)
      from.on('data', bytes => {
        frames.take(bytes)
        to.write(bytes)
        if (from === upstream && wire.rate < Infinity) {
          from.pause()
          setTimeout(() => from.resume(), bytes.length / wire.rate)
        }
      })
      from.on('end', () => to.end())
      from.on('error', () => to.destroy())
      from.on('close', () => sockets.delete(from))
    }
  })
  await new Promise(resolve => server.listen(0, '127.0.0.1', resolve))
  wire.ws = database => `ws://127.0.0.1:${server.address().port}/${database}`
  // upgraded are the connections that replicated.
  wire.upgraded = () => wire.connections.filter(({ status }) => status.startsWith('HTTP/1.1 101'))
  wire.stop = () => new Promise(resolve => { server.close(resolve); for (const socket of sockets) socket.destroy() })
  return wire
}

// varints reads the numbers that a frame begins with; it returns them and where they end.
function varints (frame, count) {
  const values = []
  let at = 0
  while (values.length < count) {
    let value = 0
    for (let shift = 1; at < frame.length; shift *= 128) {
      const byte = frame[at++]
      value += (byte & 0x7f) * shift
      if (byte < 128) break
    }
    values.push(value)
  }
  return { values, at }
}

// noteRequest keeps the properties of a request that came uncompressed, as those do that name a position.
function noteRequest (connection, frame) {
  const { values: [number, flags, length], at } = varints(frame, 3)
  if (flags & (TYPE | COMPRESSED) || number <= connection.last) return // the properties are in the first frame of a message
  connection.last = number
  const parts = frame.subarray(at, at + length).toString().split('\0')
  const properties = { number }
  for (let i = 0; i + 1 < parts.length; i += 2) properties[parts[i]] = parts[i + 1]
  if (properties.Profile) connection.requests.push(properties)
}

// noteReply keeps the numbers of requests of the client that were answered.
function noteReply (connection, frame) {
  const { values: [number, flags] } = varints(frame, 2)
  if ((flags & TYPE) === REPLY) connection.answered.add(number)
}

// Frames cuts one direction of a connection into its HTTP heads and the WebSocket frames after them.
class Frames {
  #rest = Buffer.alloc(0)

  constructor (onHead, onClose, onMessage) { Object.assign(this, { onHead, onClose, onMessage }) }

  take (bytes) {
    this.#rest = Buffer.concat([this.#rest, bytes])
    while (this.#rest[0] < 128 ? this.#head() : this.#frame());
  }

  // #head takes one HTTP head off with its body, if it is there whole. There may be some before the upgrade: a login is asked for. The
  // first byte of a frame has its top bit set, except that of a continuation, which BLIP has none of.
  #head () {
    const end = this.#rest.indexOf('\r\n\r\n')
    if (end < 0) return false
    const head = this.#rest.subarray(0, end).toString()
    const body = Number(/^content-length: *(\d+)/im.exec(head)?.[1] ?? 0)
    if (this.#rest.length < end + 4 + body) return false
    this.#rest = this.#rest.subarray(end + 4 + body)
    this.onHead(head)
    return true
  }

  // #frame takes one frame off, if it is there whole.
  #frame () {
    const b = this.#rest
    if (b.length < 2) return false
    let length = b[1] & 0x7f
    let at = 2
    const wide = { 126: 2, 127: 8 }[length] ?? 0
    if (b.length < at + wide) return false
    if (wide) length = Number(b.readUIntBE(wide === 8 ? at + 2 : at, wide === 8 ? 6 : 2))
    at += wide
    const masked = b[1] & 0x80
    const mask = b.subarray(at, at + 4)
    if (masked) at += 4
    if (b.length < at + length) return false
    const payload = Buffer.from(b.subarray(at, at + length))
    if (masked) for (let i = 0; i < length; i++) payload[i] ^= mask[i & 3]
    this.#rest = b.subarray(at + length)
    const opcode = b[0] & 0x0f
    if (opcode === CLOSE) this.onClose(length >= 2 ? payload.readUInt16BE(0) : 1005)
    else if (opcode < CLOSE) this.onMessage(payload)
    return true
  }
}

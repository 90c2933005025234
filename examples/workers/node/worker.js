// A Majordomo worker (RFC 7) that replies in capitals.
//
//   npm install --ignore-scripts && node worker.js tcp://127.0.0.1:5555 upper
//
// It says READY, answers one request at a time, beats every 2.5 s, and opens a new socket when the broker
// says DISCONNECT or is silent for three beats. Work may come twice: that is for the worker to bear.
import * as zmq from "zeromq"

const [endpoint = "tcp://127.0.0.1:5555", service = "upper"] = process.argv.slice(2)
const HEARTBEAT_MS = 2500
const LIVENESS = 3
const HEADER = "MDPW01"
const READY = Buffer.from([1])
const REQUEST = 2
const REPLY = Buffer.from([3])
const HEARTBEAT = Buffer.from([4])
const DISCONNECT = 5

function work(body) {
  return body.map((frame) => frame.toString().toUpperCase())
}

async function session() {
  const socket = new zmq.Dealer({ linger: 0, receiveTimeout: HEARTBEAT_MS * LIVENESS })
  socket.connect(endpoint)
  // A socket of zeromq.js takes one send at a time: each waits for the one before.
  let last = socket.send(["", HEADER, READY, service])
  const send = (frames) => (last = last.then(() => socket.send(frames)))
  const beat = setInterval(() => send(["", HEADER, HEARTBEAT]).catch(() => clearInterval(beat)), HEARTBEAT_MS)
  try {
    for (;;) {
      const [, , command, ...rest] = await socket.receive()
      if (command[0] === DISCONNECT) return
      if (command[0] !== REQUEST) continue
      const [client, , ...body] = rest
      await send(["", HEADER, REPLY, client, "", ...work(body)])
    }
  } catch (error) {
    if (error.code !== "EAGAIN") throw error // silent for three beats
  } finally {
    clearInterval(beat)
    socket.close()
  }
}

for (;;) await session()

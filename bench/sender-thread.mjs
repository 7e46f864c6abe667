import net from 'node:net'
import { parentPort, workerData } from 'node:worker_threads'
import { crc32c } from '@node-rs/crc32'

/**
 * The thread of `sender-bench.ts`: sends each batch that it gets and gives its buffer back. Plain JavaScript, since a worker
 * of Node 20 loads no TypeScript.
 */
const socket = net.connect({ host: '127.0.0.1', port: workerData, noDelay: true }, () => {
  parentPort.on('message', (/** @type {Uint8Array} */ bytes) => {
    const batch = Buffer.from(bytes.buffer)
    batch.writeUInt32BE(crc32c(batch.subarray(21)), 17)
    socket.write(batch, () => parentPort.postMessage(batch, [batch.buffer]))
  })
  parentPort.postMessage('ready', [])
})

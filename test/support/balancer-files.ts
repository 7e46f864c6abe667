import { readFileSync } from 'node:fs'

/** The configurations that docs/load-balancers.md quotes. */
export const haproxyFile = 'deploy/haproxy/haproxy.cfg'
export const nginxFile = 'deploy/nginx/chute.conf'
export const envoyFile = 'deploy/envoy/envoy.yaml'

/**
 * A configuration with other ports and a line for each gateway, as the line of the first one. Nothing else is changed. Each of the ports
 * 8000 (the balancer's), 8081 and 8082 (the gateways') is in the file once.
 */
export function onPorts(file: string, port: number, gateways: readonly number[]): string {
  const lines = readFileSync(file, 'utf8')
    .replace(/\b8000\b/, String(port))
    .split('\n')
  const first = lines.findIndex((line) => /\b8081\b/.test(line))
  const ofGateways = gateways.map((gateway, nth) =>
    lines[first]!.replace(/\b8081\b/, String(gateway)).replace('gateway1', `gateway${nth + 1}`),
  )
  return lines.toSpliced(first, 2, ...ofGateways).join('\n')
}

import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { expect, onTestFinished, test } from 'vitest'
import { parse } from 'yaml'
import { loadConfig, loadKeys } from '../../../src/config/load-config.ts'
import { makeAuthority } from '../../support/certificates.ts'

/** The instructions of the image that is shipped: the last stage's. */
const instructions = readFileSync('Dockerfile', 'utf8')
  .replaceAll(/^#.*\n/gm, '')
  .replaceAll('\\\n', ' ')
  .split(/^FROM /m)
  .at(-1)!
  .split('\n')

function argumentsOf(instruction: string): string[] {
  return instructions
    .filter((line) => line.startsWith(`${instruction} `))
    .map((line) => line.slice(instruction.length + 1).trim())
}

/** What `ENV` sets. */
const imageEnvironment = Object.fromEntries(
  argumentsOf('ENV').flatMap((line) => line.split(/\s+/).map((pair) => pair.split('='))),
) as NodeJS.ProcessEnv

test('the image starts with several workers, and calls no stream durable: it sets no data folder', () => {
  expect(imageEnvironment).toMatchObject({ HOST: '0.0.0.0', PORT: '8080' })
  const config = loadConfig({
    ...imageEnvironment,
    KAFKA_BROKERS: 'kafka:9092',
    WORKERS: '2',
    CHUTE_OPEN: 'true',
  })
  expect(config.dataDir).toBeNull()
  expect(config.streams.filter(({ spool }) => spool !== null)).toEqual([])
})

test('the image brings no volume that nobody asked for', () => {
  expect(argumentsOf('VOLUME')).toEqual([])
})

test("the image's user is a number other than root's, as runAsNonRoot wants it", () => {
  const users = argumentsOf('USER')
  expect(users).toHaveLength(1)
  expect(users[0]).toMatch(/^[1-9]\d*:[1-9]\d*$/)
})

/** Runs the line of HEALTHCHECK. @returns its exit code */
async function healthOf(env: NodeJS.ProcessEnv): Promise<number | null> {
  const [line = ''] = argumentsOf('HEALTHCHECK')
  const [, ...args] = JSON.parse(line.slice(line.indexOf('['))) as string[]
  const child = execFile(process.execPath, args, { env: { ...imageEnvironment, ...env } })
  const [code] = (await once(child, 'close')) as [number | null]
  return code
}

test.each([
  [{}, 'PORT', false],
  [{ TLS_CERT_FILE: '/tls/tls.crt' }, 'PORT', true],
  [{ TLS_CERT: 'a text' }, 'PORT', true],
  [{ TLS_CERT_FILE: '/tls/tls.crt' }, 'ADMIN_PORT', false],
])(
  'HEALTHCHECK with %j asks %s, by HTTPS: %s, whoever signed the certificate',
  { timeout: 30_000 },
  async (env, name, isTls) => {
    let status = 200
    const answer: Parameters<typeof createServer>[1] = ({ url }, response) =>
      void response.writeHead(url === '/livez' ? status : 404).end('{}')
    const server = isTls
      ? createTlsServer(makeAuthority().issue('gateway.example'), answer)
      : createServer(answer)
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    onTestFinished(() => void server.close())
    const here = { ...env, [name]: String((server.address() as AddressInfo).port) }
    expect(await healthOf(here)).toBe(0)
    status = 503
    expect(await healthOf(here)).toBe(1)
  },
)

test('a service has a data folder where it has a volume for it, and nowhere else', () => {
  const { services } = parse(readFileSync('compose.yaml', 'utf8')) as {
    services: Readonly<
      Record<string, { environment?: Readonly<Record<string, unknown>>; volumes?: readonly string[] }>
    >
  }
  const folderOf = ({ environment }: (typeof services)[string]) => environment?.['CHUTE_DATA_DIR'] ?? null
  expect(folderOf(services['chute']!)).toBe('/data')
  for (const [name, service] of Object.entries(services)) {
    const mounted = (service.volumes ?? []).some((volume) => volume.split(':')[1] === '/data')
    expect([name, folderOf(service)]).toEqual([name, mounted ? '/data' : null])
  }
})

test('the image takes events from no stranger: without keys, or the wish to have none, it does not start', () => {
  const env = { ...imageEnvironment, KAFKA_BROKERS: 'kafka:9092' }
  expect(() => loadConfig(env)).toThrow(/HOST is "0\.0\.0\.0" and there are no keys/)
})

test('the keys of compose.yaml are those that its comments name, and Prometheus has the one of the operators', () => {
  const keys = loadKeys({ CHUTE_KEYS_FILE: 'deploy/keys/keys.yaml' })
  const hashOf = (value: string) => createHash('sha256').update(value).digest('hex')
  const comments = readFileSync('compose.yaml', 'utf8').match(/chk_\w+/g)!
  expect(comments.map(hashOf)).toEqual(keys.flatMap(({ sha256 }) => sha256))
  const ofPrometheus = readFileSync('deploy/keys/ops.key', 'utf8').trim()
  expect(keys.find(({ kind }) => kind === 'admin')?.sha256).toEqual([hashOf(ofPrometheus)])
})

import { execFile, execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, inject, test } from 'vitest'
import { parse, stringify } from 'yaml'
import { startFailingNetwork, type NetworkFault } from '../support/failing-network.ts'
import { isLong } from '../support/forms.ts'
import { readTopic } from '../support/independent-reader.ts'
import {
  chuteArguments,
  chuteEnvironment,
  serveGateway,
  type ServedGateway,
} from '../support/served-gateway.ts'

const run = promisify(execFile)
const page = readFileSync('docs/devices.md', 'utf8')

/** The code of a section of the page, as it is written there. */
function exampleOf(section: string, language: string): string {
  const [, rest = ''] = page.split(`\n## ${section}\n`)
  const [text = ''] = rest.split('\n## ', 1)
  const code = new RegExp(`\`\`\`${language}\n([^]*?)\`\`\``).exec(text)?.[1]
  if (code === undefined) throw new Error(`no ${language} under ${section}`)
  return code
}

const folder = mkdtempSync(join(tmpdir(), 'chute-devices-'))
const topic = `devices-${randomUUID()}`
let gateway: ServedGateway
let gatewayPort: number
let key: string

beforeAll(async () => {
  const setUp = 'A stream and a key for devices'
  const command = exampleOf(setUp, 'sh').trim()
  expect(command).toMatch(/^npx --no chute keys new /)
  const options = command.split(' ').slice(3)
  const env = chuteEnvironment({})
  const printed = execFileSync(process.execPath, [...chuteArguments, ...options], { env, encoding: 'utf8' })
  key = /chk_\w+/.exec(printed)![0]
  const { streams } = parse(exampleOf(setUp, 'yaml')) as { streams: { telemetry: object } }
  const { keys } = parse(printed.slice(printed.indexOf('keys:'))) as { keys: object }
  const file = join(folder, 'chute.yaml')
  writeFileSync(file, stringify({ streams: { telemetry: { ...streams.telemetry, topic } }, keys }))
  gateway = await serveGateway({
    KAFKA_BROKERS: inject('kafkaBroker'),
    CHUTE_CONFIG: file,
    ADMIN_PORT: '0',
  })
  await gateway.ready()
  gatewayPort = Number(new URL(gateway.url).port)
})

afterAll(() => {
  gateway?.signal('SIGKILL')
  rmSync(folder, { recursive: true })
})

/** The ids of a boot that are in the topic, in the order of their numbers. */
async function idsOf(boot: number): Promise<string[]> {
  const ids = (await readTopic(inject('kafkaBroker'), topic)).map(
    ({ value }) => (JSON.parse(value.toString()) as { id: string }).id,
  )
  const numberOf = (id: string): number => Number(id.split('-')[2])
  return ids
    .filter((id) => id.startsWith(`a4cf12b3-${boot}-`))
    .toSorted((one, other) => numberOf(one) - numberOf(other))
}

/** Waits until nothing of what was accepted is under way. */
async function settled(): Promise<void> {
  await gateway.reported((families) =>
    ['chute_buffer_bytes', 'chute_unconfirmed_records'].every((name) =>
      (families.get(name)?.samples ?? []).every(({ value }) => value === 0),
    ),
  )
}

const faults: readonly NetworkFault[] = [
  'none',
  'cut answer',
  'none',
  'cut request',
  'none',
  'nothing arrives',
  'cut answer',
]

const isThere = {
  curl: ['curl', '--version'],
  'Python with requests': ['python3', '-c', 'import requests'],
  Go: ['go', 'version'],
  'a raw socket': ['python3', '--version'],
} as const

const programs = [
  ['curl', 'curl', 'sh', 17, 1],
  ['Python with requests', 'Python', 'python', 18, 300],
  ['Go', 'Go', 'go', 19, 300],
  ['a raw socket', 'Raw sockets', 'python', 20, 300],
] as const

/** The short form has the one that speaks HTTP itself. */
const shortPrograms = programs.filter(([client]) => client === 'a raw socket')

test.concurrent.for(isLong ? programs : shortPrograms)(
  '%s sends each event once over a network that fails',
  { timeout: 120_000 },
  async ([client, section, language, boot, events], { skip }) => {
    const [tool, ...version] = isThere[client]
    if ((await run(tool, version).catch(() => null)) === null) return skip(`${tool} is not there`)
    const network = await startFailingNetwork(gatewayPort, events === 1 ? ['cut answer'] : faults)
    const url = `http://127.0.0.1:${network.port}/v1/streams/telemetry`
    const env = { CHUTE_HOST: '127.0.0.1', CHUTE_PORT: String(network.port), CHUTE_URL: url, CHUTE_KEY: key }
    const file = join(folder, `boot-${boot}.${language === 'python' ? 'py' : language}`)
    writeFileSync(file, exampleOf(section, language))
    const program = { sh: ['sh', file], python: ['python3', file], go: ['go', 'run', file] }[language]
    await run(program[0]!, program.slice(1), { env: { ...process.env, ...env } })
    expect(network.faults).toEqual([])
    network.close()
    await settled()
    const first = events === 1 ? 1 : 0
    expect(await idsOf(boot)).toEqual(
      Array.from({ length: events }, (_, nth) => `a4cf12b3-${boot}-${nth + first}`),
    )
  },
)

test('the bytes of the HTTPClient of Arduino are taken on a kept connection', async () => {
  const example = exampleOf('Arduino', 'http').trimEnd().replace('CHUTE_KEY', key)
  const [head = '', body = ''] = example.split('\n\n')
  expect(Number(/^Content-Length: (\d+)$/m.exec(head)![1])).toBe(body.length)
  const socket = connect(gatewayPort, '127.0.0.1')
  socket.setEncoding('latin1')
  // The library writes the head, and then the body in pieces.
  for (const id of ['21-1', '21-2', '21-2']) {
    socket.write(`${head.replaceAll('\n', '\r\n')}\r\n\r\n`)
    socket.write(body.slice(0, 20))
    socket.write(body.slice(20).replace('21-1', id))
    const [reply] = (await once(socket, 'data')) as [string]
    expect(reply).toMatch(/^HTTP\/1\.1 202 [^]*\r\nConnection: keep-alive\r\n[^]*"accepted":1/i)
  }
  socket.destroy()
  await settled()
  expect(await idsOf(21)).toEqual(['a4cf12b3-21-1', 'a4cf12b3-21-2'])
})

test('a device cannot send under the source of another one', async () => {
  const reply = await fetch(`${gateway.url}/v1/streams/telemetry`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}` },
    body: '{"name":"room.temp","value":1,"source":"b4cf12b3","id":"b4cf12b3-1-1"}',
  })
  expect(await reply.json()).toMatchObject({ errors: [{ code: 'source_not_allowed' }] })
})

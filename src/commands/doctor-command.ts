import { isIPv6 } from 'node:net'
import { text } from 'node:stream/consumers'
import { parseArgs } from 'node:util'
import { certificatesOf, ownCertificates, warningsOfCertificates } from '../config/certificates.ts'
import { type Config, ConfigError } from '../config/config.ts'
import { warningsOfKeys } from '../config/key-warnings.ts'
import { loadConfig } from '../config/load-config.ts'
import { warningsOfWindows, weaknessesOfDoor } from '../config/warnings.ts'
import { topicsOf } from '../kafka/producers.ts'
import { openDedupeLink } from '../dedupe/redis-dedupe-store.ts'
import { openLimitsLink } from '../limits/redis-limits.ts'
import { type Logger, silentLogger } from '../logger.ts'
import type { RedisLink } from '../redis-link.ts'
import { askGateway } from './ask-gateway.ts'
import { flawOfSchema } from './check-command.ts'
import { readCommandLine, wholeNumber } from './command-line.ts'
import { type Diagnosis, failure, fine, warning, within } from './diagnosis.ts'
import { lookAtKafka } from './doctor-kafka.ts'
import { lookAtMachine } from './doctor-machine.ts'
import { writeOut } from './process.ts'

const doctorUsage = `usage: chute doctor [--json] [--timeout-ms N]

Looks at everything that a gateway needs, in the order in which it needs it, and says what is wrong and what would be right: the
configuration, this machine (descriptors, memory, data folder), each broker (name, connection, TLS, credentials), the addresses that the
cluster gives out, versions, topics, rights, settings of topics, the clock, Redis, and the gateway that runs here. It reads the
environment and the file in CHUTE_CONFIG, as the gateway does. It writes no record and creates no topic.

  --json                the findings as JSON
  --timeout-ms N        longest wait at each place, and for topics and their leaders (10000)

Exit code: 0 nothing is wrong, apart from warnings; 1 something is wrong; 2 a wrong command line.
`

/**
 * `chute doctor`: for a person who wants to know why a gateway does not work. `chute check` judges the configuration, and `chute check --connect`
 * waits until a gateway would be ready, for an init container. The doctor looks at more, waits for little, and has a remedy for each fault.
 * @returns the exit code of the process, as the usage has it.
 */
export async function runDoctorCommand(argv: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  const commandLine = readCommandLine(argv, doctorUsage, readDoctorArguments)
  if (typeof commandLine === 'number') return commandLine
  const findings = await diagnose(env, commandLine.timeoutMs)
  const count = (state: Diagnosis['state']): number => findings.filter((each) => each.state === state).length
  const [failures, warnings] = [count('failure'), count('warning')]
  await writeOut(
    commandLine.json
      ? `${JSON.stringify({ ok: failures === 0, failures, warnings, findings }, null, 2)}\n`
      : `${findings.map(describe).join('')}\n${verdict(findings, failures, warnings)}\n`,
  )
  return failures === 0 ? 0 : 1
}

function readDoctorArguments(argv: readonly string[]): {
  readonly json: boolean
  readonly timeoutMs: number
} {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      json: { type: 'boolean', default: false },
      'timeout-ms': { type: 'string', default: '10000' },
    },
  })
  return { json: values.json, timeoutMs: wholeNumber('--timeout-ms', values['timeout-ms'], 1, 3_600_000) }
}

/** All findings, in the order in which a gateway needs things. @param limitMs longest wait at each place, and for topics and their leaders. */
export async function diagnose(env: NodeJS.ProcessEnv, limitMs: number): Promise<Diagnosis[]> {
  let config: Config
  try {
    config = loadConfig(env, undefined, flawOfSchema)
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    return error.problems.map(({ path, problem, remedy }) =>
      failure('configuration', `${path} ${problem}`, remedy),
    )
  }
  const [kafka, redis, gateway] = await Promise.all([
    lookAtKafka(config, limitMs),
    lookAtRedis(config, limitMs),
    lookAtGateway(config, Math.min(gatewayMs, limitMs)),
  ])
  return [...lookAtConfiguration(config), ...lookAtMachine(config), ...kafka, ...redis, ...gateway]
}

function lookAtConfiguration(config: Config): Diagnosis[] {
  const { streams, kafka } = config
  const topics = new Set(streams.flatMap(topicsOf)).size
  const warnings = warningsOfCertificates(ownCertificates(certificatesOf(config), config.pemFiles))
  return [
    fine(
      'configuration',
      `${countOf(streams.length, 'stream')}, ${countOf(topics, 'topic')}, Kafka at ${kafka.brokers.join(',')}`,
    ),
    ...warnings.map((each) => warning('certificate', each, 'Renew it.')),
    ...warningsOfWindows(config.http).map((each) => warning('limits', each, 'Give the unit: 60s.')),
    ...warningsOfKeys(config.http).map((each) => warning('keys', each, 'See chute keys list.')),
    ...weaknessesOfDoor(config.http).map(({ detail, remedy }) => warning('door', detail, remedy)),
  ]
}

/** Each Redis that gateways share, if there is one. */
async function lookAtRedis({ dedupeStore, http }: Config, limitMs: number): Promise<Diagnosis[]> {
  const { rateLimitStore } = http
  const looks: Promise<Diagnosis>[] = []
  const look = (name: string, open: (logger: Logger) => StoreLink): void =>
    void looks.push(lookAtStore(`Redis of ${name}`, open, limitMs))
  if (dedupeStore !== null) look('CHUTE_DEDUPE_REDIS_URL', (logger) => openDedupeLink(dedupeStore, logger))
  if (rateLimitStore !== null)
    look('RATE_LIMIT_REDIS_URL', (logger) => openLimitsLink(rateLimitStore, logger))
  return await Promise.all(looks)
}

type StoreLink = Pick<RedisLink<never>, 'use' | 'start' | 'close'>

/** Connects as a gateway does, with the same probe: a key that ends after milliseconds. */
async function lookAtStore(
  name: string,
  open: (logger: Logger) => StoreLink,
  limitMs: number,
): Promise<Diagnosis> {
  let link: StoreLink | undefined
  const answer = new Promise<void>((resolve, reject) => {
    const warn = (fields: object): void => reject(new Error(String((fields as { cause?: unknown }).cause)))
    link = open({ ...silentLogger, warn })
    link.use({ resume: async () => resolve(), suspend() {} })
    link.start()
  })
  try {
    await within(limitMs, answer)
    return fine(name, 'it answers, and takes writes')
  } catch (error) {
    const { message } = error as Error
    return failure(name, message, remedyOfRedis.find(([pattern]) => pattern.test(message))![1])
  } finally {
    link?.close()
  }
}

/** The first words are the codes of Redis's errors. */
const remedyOfRedis: readonly (readonly [RegExp, string])[] = [
  [/READONLY/, 'Use the address of the primary: this Redis is a replica, and takes no writes.'],
  [/OOM/, 'Redis is out of memory: raise maxmemory, or free some.'],
  [
    /NOPERM|ACL|can't run this command/,
    'Permit the user what the message names, on all keys with the prefix (ACL SETUSER).',
  ],
  [/WRONGPASS|NOAUTH/, 'Correct the user and the password in the URL.'],
  [/(?:)/, 'Correct the address and the credentials in the URL, or start Redis.'],
]

/** Asks the gateway that runs on this machine with this configuration, if one does. */
async function lookAtGateway({ http }: Config, limitMs: number): Promise<Diagnosis[]> {
  const { adminPort, port, tls } = http
  const asked = adminPort ?? port
  if (asked === 0) return []
  const host = http.host === '0.0.0.0' ? '127.0.0.1' : http.host === '::' ? '::1' : http.host
  const name = `gateway at ${host}:${asked}`
  const isTls = adminPort === null && tls !== null
  const signal = AbortSignal.timeout(limitMs)
  let reply: { status: number; body: string }
  try {
    const url = new URL(`${isTls ? 'https' : 'http'}://${isIPv6(host) ? `[${host}]` : host}:${asked}/readyz`)
    // The certificate names no address of this machine.
    const sent = await askGateway(url, { verify: false, signal })
    reply = { status: sent.statusCode ?? 0, body: await text(sent) }
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    return code === 'ECONNREFUSED'
      ? [fine(name, 'none runs there now')]
      : [
          failure(
            name,
            `what listens there does not answer: ${signal.aborted ? `no answer within ${limitMs} ms` : message}`,
            `See which process it is, and restart it: ss -ltnp 'sport = :${asked}'`,
          ),
        ]
  }
  const checks = checksIn(reply.body)
  if (checks === null) {
    const isHttps = reply.status === 400 && reply.body.includes('HTTPS')
    return [
      isHttps
        ? failure(
            name,
            'what listens there speaks HTTPS, and the settings here have no certificate',
            'Run chute doctor with the environment of the gateway, TLS_CERT and TLS_KEY among it.',
          )
        : failure(
            name,
            `something else listens there (GET /readyz answers ${reply.status})`,
            `Set another ${adminPort === null ? 'PORT' : 'ADMIN_PORT'}, or end that process.`,
          ),
    ]
  }
  const bad = checks.filter(({ ok }) => !ok).map((check) => `${check.name}: ${check.detail ?? 'not ok'}`)
  return [
    bad.length === 0 ? fine(name, 'it is ready') : failure(name, `it is not ready: ${bad.join('; ')}`, null),
  ]
}

/** The checks of an answer of `/readyz`; null: no gateway has answered. */
function checksIn(body: string): { name: string; ok: boolean; detail?: string }[] | null {
  try {
    const { checks } = JSON.parse(body) as { checks?: unknown }
    return Array.isArray(checks) ? (checks as { name: string; ok: boolean; detail?: string }[]) : null
  } catch {
    return null
  }
}

const words: Readonly<Record<Diagnosis['state'], string>> = {
  ok: 'ok  ',
  warning: 'WARN',
  failure: 'FAIL',
  skipped: 'skip',
}

function describe({ state, name, detail, remedy }: Diagnosis): string {
  const line = `${words[state]} ${name}: ${detail}\n`
  return remedy === null ? line : `${line}       → ${remedy.replaceAll('\n', '\n         ')}\n`
}

/** A fault often brings others with it, and the first one in the order of the looks is the cause. */
function verdict(findings: readonly Diagnosis[], failures: number, warnings: number): string {
  const also = warnings === 0 ? '' : `, ${countOf(warnings, 'warning')}`
  if (failures === 0) return `Nothing is wrong${also}.`
  const first = findings.find(({ state }) => state === 'failure')!
  return `${countOf(failures, 'fault')}${also}. Begin with the first: ${first.name}.`
}

function countOf(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`
}

const gatewayMs = 3_000

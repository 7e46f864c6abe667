import type { z } from 'zod'
import { expect, test } from 'vitest'
import type { ConfigProblem } from '../../../src/config/config.ts'
import { consumerShape } from '../../../src/config/consumer-settings.ts'
import { environmentShape } from '../../../src/config/environment-schema.ts'
import { producerShape } from '../../../src/config/producer-schema.ts'
import { keyShape } from '../../../src/config/read-keys.ts'
import { readFields } from '../../../src/config/read-fields.ts'
import { streamShape } from '../../../src/config/stream-schema.ts'

/** Values that a file, the environment or `--set` may give. `zstd` is not among them: an older Node refuses it. */
const kinds: Readonly<Record<string, readonly unknown[]>> = {
  nothing: ['', '  ', 'x', 'a b', 'none at all', 'x'.repeat(100)],
  numbersAtBounds: [-1, 0, 1, 9, 10, 32, 33, 256, 257, 999, 1_000, 1_001, 32_767, 32_768, 65_535, 65_536],
  largeNumbers: [2 ** 31 - 1, 2 ** 31, 2 ** 53 - 1, 2 ** 53, 1.5, Number.NaN, Number.POSITIVE_INFINITY],
  numbersAsTexts: '-1,0,1, 7 ,+1,1.5,1e3,0x10,1_000,65536,2147483648,99999999999999999999'.split(','),
  numbersWithUnits: '5m,5 M,5ms,60s,1h,500h,1d,0s,1k,10MB,10 MiB,3g'.split(','),
  booleans: [true, false, 'true', 'TRUE', ' true ', 'False', 'on', 'ON', 'off', 'yes'],
  wordsOfStreams: 'at-most-once,At-Least-Once, exactly-once,telemetry,LOGS,reject, Block '.split(','),
  wordsOfProducers: 'all, ALL ,none,None,LZ4,gzip,unlimited,Unlimited'.split(','),
  wordsOfConsumers: 'latest,EARLIEST,read_committed,READ_UNCOMMITTED'.split(','),
  wordsOfTheProcess: 'info,WARN,scram-sha-512,SCRAM-SHA-256,GSSAPI'.split(','),
  topics: ['.', '..', 'my-topic_1.x', 'ä', 'x'.repeat(250)],
  brokers: [
    'kafka:9092',
    ' a:1 , b:2 ',
    'a:1,b',
    'a,b:0',
    'a:65536',
    '[::1]:9092',
    '::1:9092',
    'k://a:1',
    ',',
  ],
  origins: ['*', 'https://a.example', 'https://*.a.example,http://b.example:8080', '*,https://a.example'],
  wrongOrigins: ['HTTPS://A.example:443', 'https://a.example/', 'https://*', 'a.example', 'file:///a'],
  redis: ['redis://a', 'rediss://u:p@a:6380/0', 'redis://a:6379/x', 'redis://a?b', 'redis:', 'http://a:6379'],
  pem: ['-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n', '-----BEGIN', 'MIIC'],
  keys: [
    '/user/id',
    '/a~2',
    '/a'.repeat(17),
    'header:X-Device',
    'header:',
    'header: cookie',
    'source',
    'admin',
  ],
  headers: [{ a: 'header:X' }, { a: 'time', b: 'key:name' }, { a: 'x' }, { a: 'header:cookie' }],
  wrongHeaders: [
    { 'chute-audit': 'time' },
    { ä: 'time' },
    Object.fromEntries(Array.from({ length: 17 }, (_, nth) => [nth, 'time'])),
  ],
  hashes: ['a'.repeat(64), ['A'.repeat(64), 'b'.repeat(64)], ['a'.repeat(64), 'a'.repeat(63)]],
  lists: [
    'a,b-*',
    ['a', ' b-* '],
    ['a*b'],
    ['a', ''],
    ['https://a.example', 'http://b.example'],
    ['a:1', 'b:2'],
  ],
  times: ['2027-01-31', '2027-01-31T12:00:00Z', '2027-01-31T12:00', '2027-13-01', new Date('2027-01-31')],
  othersOfYaml: [null, [], ['a'], ['true'], [1], [[]], {}, { a: 1 }],
}

const values = Object.values(kinds).flat()

/** A list of names takes almost every text, so keys get less of them. */
const valuesOfKeys = Object.entries(kinds)
  .filter(([kind]) => !/numbers|words|redis|brokers/i.test(kind))
  .flatMap(([, some]) => some)

/** The environment has no values but texts. */
const texts = values.filter((value) => typeof value === 'string')

test.each([
  ['environment', environmentShape, texts],
  ['stream', streamShape, values],
  ['producer', producerShape, values],
  ['consumer', consumerShape, values],
  ['key', keyShape, valuesOfKeys],
] as const)('each setting of the %s answers each value as it did', async (name, shape, given) => {
  const path = `problem-texts/${name}.txt`
  await expect(tableOf(shape, given)).toMatchFileSnapshot(path, `${path}: run the test with -u, and read it`)
})

/**
 * Settings that answer every value alike share one part of the table. A part has each remedy, below the remedy the problems, and
 * after a problem the values that have it. `_` in a problem stands for the value. Accepted values have what they are read as.
 */
function tableOf(shape: z.ZodRawShape, given: readonly unknown[]): string {
  const parts = new Map<string, string[]>()
  for (const key of Object.keys(shape)) {
    const remedies = new Map<string, Map<string, string[]>>()
    for (const value of given) {
      const { remedy, problem } = answerOf(shape, key, value)
      const problems = remedies.get(remedy) ?? new Map<string, string[]>()
      remedies.set(remedy, problems.set(problem, [...(problems.get(problem) ?? []), show(value)]))
    }
    const part = [...remedies].flatMap(([remedy, problems]) => [
      `  ${remedy}`,
      ...[...problems].map(([problem, which]) => `    ${problem} ← ${which.join(' ')}`),
    ])
    const missing = answerOf(shape, key, undefined)
    const settings = parts.get(part.join('\n')) ?? []
    parts.set(part.join('\n'), [...settings, `${key}, missing: ${missing.problem} (${missing.remedy})`])
  }
  return [...parts].map(([part, settings]) => `${settings.join('\n')}\n${part}\n`).join('\n')
}

function answerOf(shape: z.ZodRawShape, key: string, value: unknown): { remedy: string; problem: string } {
  const problems: ConfigProblem[] = []
  const read = readFields({ [key]: shape[key]! }, { [key]: value }, (each) => `at ${each}`, problems)
  if (problems.length === 0)
    return { remedy: 'accepted', problem: read[key] === value ? 'as it is' : show(read[key]) }
  const [{ path, problem, remedy }, ...more] = problems as [ConfigProblem, ...ConfigProblem[]]
  if (path !== `at ${key}` || more.length > 0) throw new Error(`${key}: ${JSON.stringify(problems)}`)
  return {
    remedy,
    problem: value === undefined ? problem : problem.replace(` ${JSON.stringify(value)}`, ' _'),
  }
}

function show(value: unknown): string {
  if (typeof value === 'number' || value === undefined) return String(value)
  return JSON.stringify(value).replace(/x{90,}/, (all) => `x*${all.length}`)
}

import { readFileSync, writeFileSync } from 'node:fs'
import { parse } from 'yaml'
import type { z } from 'zod'
import { consumerShape, resolveConsumer } from '../src/config/consumer-settings.ts'
import { describeConfig, describeConsumer } from '../src/config/describe-config.ts'
import { httpShape, kafkaShape, processShape } from '../src/config/environment-schema.ts'
import { loadConfig } from '../src/config/load-config.ts'
import { presets } from '../src/config/presets.ts'
import { producerShape } from '../src/config/producer-schema.ts'
import { maxInt32, metaOf } from '../src/config/setting.ts'
import { streamShape } from '../src/config/stream-schema.ts'

/**
 * Writes the tables of settings into docs/configuration.md, between `<!-- settings: NAME -->` and `<!-- /settings -->`; with
 * `--check` it only compares, and fails when the page is out of step with the code. Names, values and texts come from the schemas
 * of src/config, and defaults from the configuration of a gateway that sets nothing.
 */
const file = new URL('../docs/configuration.md', import.meta.url)

type Values = Readonly<Record<string, string | number | boolean | null>>

/** What is in force where nothing is set but what has to be: a stream of each delivery, and a data folder. */
function defaults(): { environment: Values; stream: Values; producer: Values; consumer: Values } {
  const text = 'streams: { a: { delivery: at-most-once }, b: { delivery: at-least-once } }'
  const env = { KAFKA_BROKERS: 'localhost:9092', CHUTE_CONFIG: 'a.yaml', CHUTE_DATA_DIR: '/data' }
  const described = parse(describeConfig(loadConfig(env, () => text))) as {
    environment: Values
    streams: { a: Values & { producer: Values }; b: Values & { producer: Values } }
  }
  const { a, b } = described.streams
  const anyone = { topic: 'a', groupId: 'a' }
  return {
    environment: described.environment,
    stream: common(a, b),
    producer: common(a.producer, b.producer),
    consumer: describeConsumer(resolveConsumer({}, { ...anyone, delivery: 'auto-commit' })),
  }
}

/** What two streams have alike, and what only one of them has. */
function common(a: Values, b: Values): Values {
  const alike = Object.entries({ ...a, ...b }).filter(
    ([key, value]) => (a[key] ?? value) === (b[key] ?? value),
  )
  return Object.fromEntries(alike)
}

/** One row a setting, in the order of the schema. */
function tableOf(shape: Readonly<Record<string, z.ZodType>>, inForce: Values): string {
  const rows = Object.entries(shape).map(([name, schema]) => {
    const { what, orInFile = false } = metaOf(schema)
    if (what === undefined) throw new Error(`${name}: say what it acts on, register(reference, { what: … })`)
    const cells = [
      `\`${name}\`${orInFile ? ' †' : ''}`,
      valuesOf(name, schema),
      defaultOf(name, schema, inForce),
    ]
    return `| ${cells.join(' | ')} | ${what} |`
  })
  return ['| setting | value | default | what it acts on |', '|---|---|---|---|', ...rows].join('\n')
}

/** The default that the schema has itself, or else what is in force. */
function defaultOf(name: string, schema: z.ZodType, inForce: Values): string {
  const own = schema.safeParse(undefined).data as Values[string] | undefined
  const value = own ?? inForce[name] ?? null
  const shown = typeof value === 'number' ? String(value) : `\`${String(value)}\``
  const { byDefault = own === null ? 'not set' : '{}' } = metaOf(schema)
  if (value === null && byDefault.includes('{}'))
    throw new Error(`${name} has no one default: say it in the schema, { byDefault: … }`)
  return byDefault.replace('{}', shown)
}

function valuesOf(name: string, schema: z.ZodType): string {
  const { takes, bounds } = metaOf(schema)
  if (bounds === undefined) {
    if (takes === undefined) throw new Error(`${name}: say what it takes, { takes: … }`)
    return takes
  }
  const { unit, least, most, or } = bounds
  const what = unit === 'milliseconds' ? 'ms' : (unit ?? 'number')
  const range = most >= maxInt32 ? `${what}, from ${least}` : `${what}, ${least} to ${most}`
  return or === undefined ? range : `${range}, or \`${or}\``
}

function presetsTable(): string {
  const head =
    '| preset | `acks` | `retries` | `retry.backoff.ms` | `linger.ms` | `batch.size` | `buffer.memory` | in flight | `compression.type` |'
  const rows = Object.entries(presets).map(([name, preset]) => {
    const resent = preset.retries > 0
    const cells = [
      `\`${name}\`${name === 'telemetry' ? ' (default of at-most-once)' : name === 'device' ? ' (with `dedupe: on`)' : name === 'reports' ? ' (with `schema: reports`)' : name === 'critical' ? ' (default of at-least-once)' : ''}`,
      preset.acks === -1 ? 'all' : preset.acks,
      preset.retries,
      resent ? preset.retryBackoffMs : '–',
      preset.lingerMs,
      preset.batchSizeBytes,
      preset.bufferMemoryBytes,
      preset.maxInFlight === 1 ? 'one per partition' : preset.maxInFlight,
      preset.compressionType,
    ]
    return `| ${cells.join(' | ')} |`
  })
  return [head, '|---|---|---|---|---|---|---|---|---|', ...rows].join('\n')
}

const { environment, stream, producer, consumer } = defaults()
const tables: Readonly<Record<string, string>> = {
  http: tableOf(httpShape, environment),
  kafka: tableOf(kafkaShape, environment),
  process: tableOf(processShape, environment),
  stream: tableOf(streamShape, stream),
  presets: presetsTable(),
  producer: tableOf(producerShape, producer),
  consumer: tableOf(consumerShape, consumer),
}

const page = readFileSync(file, 'utf8')
const written = page.replaceAll(
  /(<!-- settings: (\w+) -->\n)[^]*?(\n<!-- \/settings -->)/g,
  (_all, start: string, name: string, end: string) => {
    const table = tables[name]
    if (table === undefined) throw new Error(`docs/configuration.md: there is no table ${name}`)
    return start + table + end
  },
)
for (const name of Object.keys(tables)) {
  if (!page.includes(`<!-- settings: ${name} -->`))
    throw new Error(`docs/configuration.md lacks the table ${name}`)
}
if (!process.argv.includes('--check')) {
  writeFileSync(file, written)
} else if (written !== page) {
  process.stderr.write('docs/configuration.md is out of step: run `npx tsx dev/settings-reference.ts`\n')
  process.exitCode = 1
}

import { readFileSync, writeFileSync } from 'node:fs'
import { parse } from 'yaml'
import type { z } from 'zod'
import { consumerShape, resolveConsumer } from '../src/config/consumer-settings.ts'
import { describeConfig, describeConsumer } from '../src/config/describe-config.ts'
import { environmentShape, fileVariables } from '../src/config/environment-schema.ts'
import { loadConfig } from '../src/config/load-config.ts'
import { presets } from '../src/config/presets.ts'
import { producerShape } from '../src/config/producer-schema.ts'
import { streamShape } from '../src/config/stream-schema.ts'
import {
  consumerSettings,
  httpSettings,
  kafkaSettings,
  processSettings,
  producerSettings,
  type SettingText,
  streamSettings,
} from './settings.ts'

/**
 * Writes the tables of settings into docs/configuration.md, between `<!-- settings: NAME -->` and `<!-- /settings -->`; with
 * `--check` it only compares, and fails when the page is out of step with the code. Names come from the schemas of src/config,
 * values from what the schemas say of a wrong value, and defaults from the configuration of a gateway that sets nothing.
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
    environment: { ...described.environment, ...defaultsOf(environmentShape) },
    stream: common(a, b),
    producer: common(a.producer, b.producer),
    consumer: describeConsumer(resolveConsumer({}, { ...anyone, delivery: 'auto-commit' })),
  }
}

/** Defaults that a schema has itself. Others depend on other settings, or are no value. */
function defaultsOf(shape: Readonly<Record<string, z.ZodType>>): Values {
  return Object.fromEntries(
    Object.entries(shape)
      .map(([name, schema]) => [name, schema.safeParse(undefined).data as Values[string]] as const)
      .filter(([, value]) => (value ?? null) !== null),
  )
}

/** What two streams have alike, and what only one of them has. */
function common(a: Values, b: Values): Values {
  const alike = Object.entries({ ...a, ...b }).filter(
    ([key, value]) => (a[key] ?? value) === (b[key] ?? value),
  )
  return Object.fromEntries(alike)
}

/** One row a setting, in the order of the texts. */
function tableOf(
  texts: Readonly<Record<string, SettingText>>,
  shape: Readonly<Record<string, z.ZodType>>,
  inForce: Values,
): string {
  const rows = Object.entries(texts).map(([name, text]) => {
    const mark = (fileVariables as readonly string[]).includes(name) ? ' †' : ''
    return `| \`${name}\`${mark} | ${text.takes ?? valuesOf(name, shape[name]!)} | ${defaultOf(name, text, inForce)} | ${text.what} |`
  })
  return ['| setting | value | default | what it acts on |', '|---|---|---|---|', ...rows].join('\n')
}

function defaultOf(name: string, text: SettingText, inForce: Values): string {
  const value = inForce[name] ?? null
  const isNumber = typeof value === 'number'
  const shown = value === null ? null : isNumber ? String(value) : `\`${String(value)}\``
  const said = text.default ?? '{}'
  if (shown === null && said.includes('{}'))
    throw new Error(`${name} has no one default: say it in settings.ts`)
  return said.replace('{}', shown ?? '')
}

/** What a schema says to a value that it cannot take, in fewer words. */
function valuesOf(name: string, schema: z.ZodType): string {
  const issue = schema.safeParse([]).error?.issues[0]
  const { remedy = '' } = (issue?.code === 'custom' ? issue.params : {}) as { remedy?: string }
  const [, unit, least, most, or] =
    /^Give (?:(milliseconds|bytes) as a plain|a) whole number, (\d+) to (\d+)\.(?: Or: (\w+)\.)?$/.exec(
      remedy,
    ) ?? []
  if (least !== undefined) {
    const what = unit === 'milliseconds' ? 'ms' : (unit ?? 'number')
    const range = Number(most) >= 2_147_483_647 ? `${what}, from ${least}` : `${what}, ${least} to ${most}`
    return or === undefined ? range : `${range}, or \`${or}\``
  }
  const words = /^Give (?:one of: )?([\w, -]+?)\.$/.exec(remedy)?.[1]
  if (words === 'a text that is not empty' || words === 'a text') return 'text'
  if (remedy.startsWith('Give the name of a topic')) return "a topic's name"
  if (words === undefined) throw new Error(`${name}: say in settings.ts what it takes`)
  return words
    .split(/, | or /)
    .map((word) => `\`${word}\``)
    .join(', ')
}

function presetsTable(): string {
  const head =
    '| preset | `acks` | `retries` | `retry.backoff.ms` | `linger.ms` | `batch.size` | `buffer.memory` | in flight | `compression.type` |'
  const rows = Object.entries(presets).map(([name, preset]) => {
    const resent = preset.retries > 0
    const cells = [
      `\`${name}\`${name === 'telemetry' ? ' (default of at-most-once)' : name === 'critical' ? ' (default of at-least-once)' : ''}`,
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
  http: tableOf(httpSettings, environmentShape, environment),
  kafka: tableOf(kafkaSettings, environmentShape, environment),
  process: tableOf(processSettings, environmentShape, environment),
  stream: tableOf(streamSettings, streamShape, stream),
  presets: presetsTable(),
  producer: tableOf(producerSettings, producerShape, producer),
  consumer: tableOf(consumerSettings, consumerShape, consumer),
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

import { Ajv, type ErrorObject, type ValidateFunction } from 'ajv'
import { Ajv2020 } from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'
import type { JsonCheck } from './check-json.ts'
import { checkPage, isPage, pageSchema } from './page-schema.ts'
import { checkReport, isReport, reportSchema } from './report-schema.ts'
import { reduceEvent } from './reduce-event.ts'
import { TelemetryScanner } from './scan-telemetry.ts'
import { telemetrySchema } from './telemetry-schema.ts'
import type { TimestampUnit } from './timestamp-format.ts'
import { useUniqueItems } from './unique-items.ts'
import { checkTelemetry, isTelemetry, type EventProblem } from './validate-telemetry.ts'

/** The rules of a stream for its events. Compiled once, at the start. */
export interface EventSchema {
  /** @returns null if the event fits; else what is wrong. To find that takes up to a hundred times as long as {@link fits}. */
  readonly check: (value: unknown) => EventProblem | null
  readonly fits: (value: unknown) => boolean
  /** Whether a large event takes too long to parse. @returns null if it can be taken; else what it has too much of. */
  readonly refuseLarge: (check: JsonCheck) => string | null
  /** The value of a large event, with the parts that the checks look at. Yields after about each `sliceBytes`. */
  readonly valueOf: (
    body: Buffer,
    start: number,
    end: number,
    sliceBytes: number,
  ) => Generator<undefined, unknown>
  /** Finds good events from their bytes; null: all events have to be parsed. */
  readonly scanner: TelemetryScanner | null
}

/** A stream's setting `schema`, in the form of the configuration. */
export type EventSchemaSetting =
  | 'telemetry'
  | 'page'
  | 'reports'
  | 'any'
  | { readonly file: string; readonly jsonSchema: unknown }

/** Length of the longest `source` that becomes a record's key, and of the longest `id`, in characters (Unicode code points). A schema may allow less. */
export const maxKeyLength = 255

/** Whether a text can be a key or an `id`. It counts as the built-in schemas do: a character outside of the BMP is one, and not two. */
export function isKeyText(text: string): boolean {
  return text.length <= maxKeyLength ? text.length > 0 : longKeyText.test(text)
}

/** In a regular expression with `u`, a character is a code point. */
const longKeyText = new RegExp(`^[^]{1,${maxKeyLength}}$`, 'u')

/**
 * Compiles the schema of one stream. A JSON Schema is compiled once for each object that it stands in: that takes some milliseconds, and
 * much longer for one with hundreds of rules.
 * @param unit of `timestamp` in the built-in schema, where it is a number.
 * @throws Error with the name of the file if the file is no JSON Schema. The gateway must not start then.
 */
export function compileEventSchema(setting: EventSchemaSetting, unit: TimestampUnit = 'ms'): EventSchema {
  if (setting === 'telemetry') {
    return {
      check: (value) => checkTelemetry(value, unit),
      fits: (value) => isTelemetry(value, unit),
      ...reduced,
      scanner: new TelemetryScanner(unit),
    }
  }
  if (setting === 'page') return { check: checkPage, fits: isPage, ...reduced, scanner: null }
  if (setting === 'reports') return { check: checkReport, fits: isReport, ...reduced, scanner: null }
  if (setting === 'any') return { check: () => null, fits: () => true, ...reduced, scanner: null }
  const known = compiled.get(setting)
  if (known !== undefined) return known
  const schema = compileJsonSchema(setting.file, setting.jsonSchema)
  compiled.set(setting, schema)
  return schema
}

const compiled = new WeakMap<object, EventSchema>()

/** The record's key: the event's own `source`, if it is a text of 1 to 255 characters. null: the record has no key. */
export function keyOf(event: unknown): string | null {
  if (typeof event !== 'object' || event === null || !Object.hasOwn(event, 'source')) return null
  const { source } = event as { readonly source: unknown }
  return typeof source === 'string' && isKeyText(source) ? source : null
}

/** The identity of an event, by which a repetition of it is found. */
export interface EventIdentity {
  /** The event's own `id`, a text of 1 to 255 characters. */
  readonly id: string
  /**
   * The event's own `source`, also if it is too long for a record's key. Empty if the event has none. null: it is a number. Only the
   * body has all digits of a number, since numbers above 2^53 share a value.
   */
  readonly source: string | null
}

/** The identity of an event; null for one without an `id`. */
export function identityOf(event: unknown): EventIdentity | null {
  if (typeof event !== 'object' || event === null || !Object.hasOwn(event, 'id')) return null
  const { id } = event as { readonly id: unknown }
  if (typeof id !== 'string' || !isKeyText(id)) return null
  const source = Object.hasOwn(event, 'source') ? (event as { readonly source?: unknown }).source : ''
  if (typeof source === 'number') return { id, source: null }
  return { id, source: typeof source === 'string' ? source : '' }
}

function compileJsonSchema(file: string, jsonSchema: unknown): EventSchema {
  if (typeof jsonSchema !== 'boolean' && (typeof jsonSchema !== 'object' || jsonSchema === null)) {
    throw new Error(`${file}: a JSON Schema is an object or a boolean, got ${JSON.stringify(jsonSchema)}`)
  }
  let validate: ValidateFunction
  let share = 1
  try {
    judgeSchema(jsonSchema)
    const compiler = compilerFor(jsonSchema, { validateSchema: false }, () => {
      share = uniqueShare
    })
    validate = compiler.compile(jsonSchema)
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new Error(`${file}: not a JSON Schema that can be used: ${reason}`, { cause })
  }
  if ('$async' in validate) throw new Error(`${file}: asynchronous schemas ($async) cannot be used`)
  const [mostNodes, mostScalars] = [maxNodes * share, maxScalars * share]
  return {
    check: (value) => (validate(value) ? null : describeError(validate.errors?.[0])),
    fits: (value) => validate(value),
    refuseLarge({ nodes, scalars }) {
      if (nodes > mostNodes) return `has ${nodes} members, objects and arrays, and ${mostNodes} is the most`
      return scalars > mostScalars ? `has ${scalars} texts and numbers, and ${mostScalars} is the most` : null
    },
    *valueOf(body, start, end, sliceBytes) {
      if (end - start > sliceBytes) yield
      const text = body.toString('utf8', start, end)
      if (end - start > sliceBytes) yield
      return JSON.parse(text) as unknown
    },
    scanner: null,
  }
}

const namedFields = [
  ...new Set([telemetrySchema, pageSchema, reportSchema].flatMap(({ shape }) => Object.keys(shape))),
].map((name) => Buffer.from(name))

/** Large events are read in a reduced form, which has all that the built-in checks, the key and the id need. */
const reduced = {
  refuseLarge: () => null,
  valueOf: (body: Buffer, start: number, end: number, sliceBytes: number) =>
    reduceEvent(body, start, end, namedFields, sliceBytes),
} as const

/** The most members, objects and arrays of a large event that is parsed whole. Parsing a million of them takes half a second. */
const maxNodes = 20_000
/** The most texts and numbers of such an event, including those in arrays. Parsing half a million of them takes 30 ms. */
const maxScalars = 100_000
/** What a schema with `uniqueItems` takes of that. Comparing 100,000 numbers takes up to 30 ms, and 20,000 members up to 60 ms. */
const uniqueShare = 1 / 4

/**
 * A compiler for the dialect that `$schema` names: draft 2020-12, or draft-07. A schema without `$schema` is read as draft-07, as most such
 * schemas are. Events are not changed: there are no defaults and no coercion.
 */
function compilerFor(
  jsonSchema: object | boolean,
  options: { readonly validateSchema: boolean },
  onUniqueItems?: () => void,
): Ajv {
  const all = { ...ajvOptions, ...options }
  const compiler = dialectOf(jsonSchema) === '2020-12' ? new Ajv2020(all) : new Ajv(all)
  addFormats.default(compiler)
  useUniqueItems(compiler, onUniqueItems)
  return compiler
}

function dialectOf(jsonSchema: object | boolean): '2020-12' | 'draft-07' {
  const named = typeof jsonSchema === 'object' && '$schema' in jsonSchema ? String(jsonSchema.$schema) : ''
  return named.includes('2020-12') ? '2020-12' : 'draft-07'
}

/**
 * Judges a schema by the schema of its dialect. The schema of a dialect takes ten times as long to compile as most schemas do, so each is
 * compiled once for the process.
 * @throws Error that says what is wrong.
 */
function judgeSchema(jsonSchema: object | boolean): void {
  const dialect = dialectOf(jsonSchema)
  const judge = (judges[dialect] ??= compilerFor(jsonSchema, { validateSchema: true }))
  void judge.validateSchema(jsonSchema, true)
}

const judges: Partial<Record<ReturnType<typeof dialectOf>, Ajv>> = {}

/** Unknown keywords and formats are refused, so that a mistyped rule is noticed. */
const ajvOptions = {
  strictSchema: true,
  strictNumbers: true,
  // These are only matters of style: a schema may leave out a type.
  strictTypes: false,
  strictTuples: false,
  strictRequired: false,
  logger: false,
} as const

function describeError(error: ErrorObject | undefined): EventProblem {
  if (error === undefined) return { pointer: '', detail: 'does not fit the schema' }
  const { additionalProperty } = error.params as { readonly additionalProperty?: string }
  const extra = additionalProperty === undefined ? '' : `: "${additionalProperty}"`
  return { pointer: error.instancePath, detail: `${error.message ?? 'does not fit the schema'}${extra}` }
}

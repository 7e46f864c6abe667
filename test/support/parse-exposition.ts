/** One sample of an exposition, with its labels unescaped. */
export interface ParsedSample {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

/** A family with its samples, in the order of the text. */
export interface ParsedFamily {
  readonly name: string
  readonly type: string
  readonly help: string
  readonly samples: ParsedSample[]
}

const labelPattern = /([a-zA-Z_]\w*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)/y
const samplePattern = /^([a-zA-Z_:][\w:]*)(?:\{([^\n]*)\})? (\S+)$/

/**
 * Reads a whole exposition and throws at anything that the formats do not allow: a family that comes twice, a sample
 * outside its family, a series that comes twice, a counter without `_total`, a histogram that is not cumulative, a bad escape,
 * a missing end. It shares no code with what it judges.
 */
export function parseExposition(
  text: string,
  format: 'prometheus' | 'openmetrics',
): Map<string, ParsedFamily> {
  if (!text.endsWith('\n')) throw new Error('the last line has no end')
  const lines = text.slice(0, -1).split('\n')
  if (format === 'openmetrics' && lines.pop() !== '# EOF') throw new Error('no # EOF')
  const families = new Map<string, ParsedFamily>()
  const series = new Set<string>()
  let family: ParsedFamily | undefined
  let help: { name: string; text: string } | undefined
  for (const line of lines) {
    const [, keyword, name = '', rest = ''] = /^# (HELP|TYPE) (\S+) (.*)$/.exec(line) ?? []
    if (keyword === 'HELP') {
      help = { name, text: rest }
    } else if (keyword === 'TYPE') {
      if (help?.name !== name) throw new Error(`TYPE without its HELP: ${line}`)
      if (families.has(name)) throw new Error(`family twice: ${name}`)
      if (format === 'openmetrics' && rest === 'counter' && name.endsWith('_total'))
        throw new Error(`the family of a counter is named without _total: ${name}`)
      family = { name, type: rest, help: help.text, samples: [] }
      families.set(name, family)
    } else {
      if (family === undefined) throw new Error(`sample before any TYPE: ${line}`)
      const sample = parseSample(line)
      const id = JSON.stringify([
        sample.name,
        Object.entries(sample.labels).toSorted(([a], [b]) => (a < b ? -1 : 1)),
      ])
      if (series.has(id)) throw new Error(`series twice: ${line}`)
      series.add(id)
      checkName(sample.name, family, format)
      family.samples.push(sample)
    }
  }
  for (const each of families.values()) if (each.type === 'histogram') checkHistogram(each)
  return families
}

function parseSample(line: string): ParsedSample {
  const match = samplePattern.exec(line)
  if (match === null) throw new Error(`not a sample: ${line}`)
  const [, name = '', labelText = '', valueText = ''] = match
  const labels: Record<string, string> = {}
  labelPattern.lastIndex = 0
  while (labelPattern.lastIndex < labelText.length) {
    const label = labelPattern.exec(labelText)
    if (label === null) throw new Error(`bad labels: ${line}`)
    const [, key = '', value = ''] = label
    if (key in labels) throw new Error(`label twice: ${line}`)
    labels[key] = value.replaceAll(/\\([^\n])/g, (_all, escaped: string) =>
      escaped === 'n' ? '\n' : escaped,
    )
  }
  if (!/^(NaN|[+-]Inf|-?\d+(\.\d+)?(e[+-]\d+)?)$/.test(valueText)) throw new Error(`bad value: ${line}`)
  return { name, labels, value: Number(valueText.replace('Inf', 'Infinity')) }
}

function checkName(name: string, { name: family, type }: ParsedFamily, format: string): void {
  const allowed =
    type === 'histogram'
      ? ['_bucket', '_sum', '_count'].map((suffix) => family + suffix)
      : [type === 'counter' && format === 'openmetrics' ? `${family}_total` : family]
  if (!allowed.includes(name)) throw new Error(`${name} does not belong to ${family}`)
  if (type === 'counter' && !name.endsWith('_total')) throw new Error(`a counter without _total: ${name}`)
  if (type !== 'counter' && name.endsWith('_total')) throw new Error(`_total and no counter: ${name}`)
}

/** Buckets of one label set must ascend in bound and in count, and end with +Inf, whose count is `_count`. */
function checkHistogram(family: ParsedFamily): void {
  let bound = Number.NEGATIVE_INFINITY
  let count = 0
  for (const { name, labels, value } of family.samples) {
    if (name.endsWith('_bucket')) {
      const le = Number((labels['le'] ?? 'none').replace('Inf', 'Infinity'))
      if (!(le > bound) || value < count) throw new Error(`buckets of ${family.name} do not ascend`)
      bound = le
      count = value
    } else if (name.endsWith('_count')) {
      if (bound !== Number.POSITIVE_INFINITY || value !== count)
        throw new Error(`${family.name}: _count is not +Inf's`)
      bound = Number.NEGATIVE_INFINITY
      count = 0
    }
  }
}

/** The value of the one series of a family that has at least these labels; throws unless it is one. */
export function valueOf(
  families: Map<string, ParsedFamily>,
  name: string,
  labels: Readonly<Record<string, string>> = {},
): number {
  const matching = samplesOf(families, name, labels)
  const [only] = matching
  if (only === undefined || matching.length > 1) throw new Error(`${matching.length} series of ${name}`)
  return only.value
}

/** The sum over all series of a name that have at least these labels. */
export function sumOf(
  families: Map<string, ParsedFamily>,
  name: string,
  labels: Readonly<Record<string, string>> = {},
): number {
  return samplesOf(families, name, labels).reduce((sum, { value }) => sum + value, 0)
}

function samplesOf(
  families: Map<string, ParsedFamily>,
  name: string,
  labels: Readonly<Record<string, string>>,
): ParsedSample[] {
  return [...families.values()]
    .flatMap(({ samples }) => samples)
    .filter((sample) => sample.name === name)
    .filter((sample) => Object.entries(labels).every(([key, value]) => sample.labels[key] === value))
}

import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { stringify } from 'yaml'
import {
  ConfigError,
  keyKinds,
  keyKindTraits,
  sha256OfKey,
  type KeyConfig,
  type KeyKind,
} from '../config/config.ts'
import { limitedQuantities, type RateLimit } from '../config/limits.ts'
import { loadKeys } from '../config/load-config.ts'
import { flawOfKeyName, readKeys } from '../config/read-keys.ts'
import { alignTable } from '../reports/text-table.ts'
import { configOrExplain, readCommandLine } from './command-line.ts'
import { writeOut } from './process.ts'

const keysUsage = `usage: chute keys new --name NAME --public | --secret | --admin [options]
       chute keys list
       chute keys check KEY | -

new makes a key and prints it, this one time, with the lines for the file that CHUTE_KEYS_FILE or CHUTE_CONFIG names. It
changes no file. With --certificate there is no key to print: a client's certificate with this name is the key. To rotate a key, make another value under its name, and put both hashes under sha256 for a while.

  --name NAME           how metrics and records call the key
  --public              for pages and devices in strangers' hands: it writes to its streams, from its origins
  --secret              for services: it writes to its streams
  --admin               for Prometheus and people: metrics, live page and docs on PORT
  --stream NAME         a stream that the key may write to; NAME* for all that begin so. Can be given again
  --origin ORIGIN       a page that may use the key: https://app.example.com, https://*.example.com. Can be given again
  --source NAME         a source that its events may have; NAME* for all that begin so. Can be given again. Left out: any
  --certificate         for clients with a certificate (TLS_CLIENT_CA), whose common name is NAME
  --not-after TIME      when the key ends: 2027-01-31 or 2027-01-31T12:00:00Z

list prints the keys of the file, and what each may do. check says which of them a key is: exit code 1 if it is none, or ended.
With - check reads the key from standard input, so that other users of the machine do not see it.
`

/**
 * `chute keys`: makes keys, and tells what the keys of the configuration are. It neither needs nor starts a gateway.
 * @returns the exit code of the process: 0; 1 if the configuration cannot be used or `check` knows no such key; 2 for a wrong
 * command line.
 * @throws what {@link writeOut} throws: the key of `new` is shown once.
 */
export async function runKeysCommand(argv: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  const commandLine = readCommandLine(argv, keysUsage, readKeysArguments)
  if (typeof commandLine === 'number') return commandLine
  if (commandLine.action === 'new') {
    await writeOut(describeNewKey(commandLine))
    if (hasKey(env, commandLine.name)) process.stderr.write(isThere(commandLine.name))
    return 0
  }
  const keys = configOrExplain(() => loadKeys(env))
  if (keys === null) return 1
  if (commandLine.action === 'list') {
    await writeOut(keys.length === 0 ? noKeys : listOf(keys))
    return 0
  }
  const sha256 = sha256OfKey(commandLine.key)
  const key = keys.find((each) => each.sha256.includes(sha256))
  if (key === undefined) {
    await writeOut(keys.length === 0 ? noKeys : 'no key has this value\n')
    return 1
  }
  await writeOut(listOf([key]))
  return isOver(key) ? 1 : 0
}

/** The configuration need not be usable to make a key for it. */
function hasKey(env: NodeJS.ProcessEnv, name: string): boolean {
  try {
    return loadKeys(env).some((key) => key.name === name)
  } catch (error) {
    if (error instanceof ConfigError) return false
    throw error
  }
}

function isThere(name: string): string {
  return `There is a key ${name} already. To rotate it, put the new hash beside the old one, under its sha256. For another client, take another name.\n`
}

type KeysCommandLine =
  | {
      readonly action: 'new'
      readonly name: string
      /** A client's certificate is the key, and no value is made. */
      readonly isCertificate: boolean
      readonly entry: Readonly<Record<string, unknown>> & { readonly kind: KeyKind }
    }
  | { readonly action: 'list' }
  | { readonly action: 'check'; readonly key: string }

function readKeysArguments([action, ...argv]: readonly string[]): KeysCommandLine {
  switch (action) {
    case 'new':
      return readNewKey(argv)
    case 'list':
      parseArgs({ args: argv, options: {} })
      return { action }
    case 'check': {
      const { positionals } = parseArgs({ args: argv, options: {}, allowPositionals: true })
      const [key] = positionals
      if (key === undefined || positionals.length > 1) throw new Error('chute keys check takes one key')
      return { action, key: key === '-' ? readFileSync(0, 'utf8').trim() : key }
    }
    default:
      throw new Error(
        action === undefined ? 'chute keys takes new, list or check' : `chute keys has no ${action}`,
      )
  }
}

function readNewKey(argv: string[]): KeysCommandLine {
  const several = { type: 'string', multiple: true } as const
  const { values } = parseArgs({
    args: argv,
    options: {
      name: { type: 'string' },
      public: { type: 'boolean', default: false },
      secret: { type: 'boolean', default: false },
      admin: { type: 'boolean', default: false },
      stream: several,
      origin: several,
      source: several,
      certificate: { type: 'boolean', default: false },
      'not-after': { type: 'string' },
    },
  })
  const { name, stream, origin, source, certificate, 'not-after': notAfter } = values
  if (name === undefined) throw new Error('--name is missing')
  const flaw = flawOfKeyName(name)
  if (flaw !== null) throw new Error(`--name ${flaw.problem}. ${flaw.remedy}`)
  const [kind, ...others] = keyKinds.filter((each) => values[each])
  if (kind === undefined || others.length > 0)
    throw new Error(`give one of --${keyKinds.slice(0, -1).join(', --')} and --${keyKinds.at(-1)}`)
  const entry = {
    kind,
    ...(stream !== undefined && { streams: stream }),
    ...(origin !== undefined && { origins: origin }),
    ...(source !== undefined && { sources: source }),
    ...(notAfter !== undefined && { notAfter }),
  }
  if (certificate && !keyKindTraits[kind].writes)
    throw new Error(`--certificate cannot be given with --${kind}: a certificate stands for no ${kind} key`)
  refuseFlaws(name, entry)
  return { action: 'new', name, isCertificate: certificate, entry }
}

/** The file's reader judges the lines before they are printed. @throws Error that says what is wrong with the command line. */
function refuseFlaws(name: string, entry: object): void {
  const problems: Parameters<typeof readKeys>[0]['problems'] = []
  const section = { [name]: { ...entry, sha256: sha256OfKey('a value') } }
  const [key] = readKeys({
    keysFile: null,
    section,
    streams: null,
    hasClientCa: null,
    readFile: () => '',
    problems,
  })
  const [first] = problems
  if (first === undefined) {
    if (key !== undefined && isOver(key))
      throw new Error('--not-after is over, so the key could do nothing. Give a time to come')
    return
  }
  const option = optionOf[first.path.split('.').at(-1) as keyof typeof optionOf] ?? first.path
  throw new Error(`${option} ${first.problem}. ${first.remedy}`)
}

const optionOf = {
  streams: '--stream',
  origins: '--origin',
  sources: '--source',
  notAfter: '--not-after',
} as const

function describeNewKey({ name, entry, isCertificate }: Extract<KeysCommandLine, { action: 'new' }>): string {
  if (isCertificate)
    return `${fileLines} They need TLS_CLIENT_CA:\n\n${stringify({ keys: { [name]: entry } })}`
  // 160 bits, in characters that no URL and no shell has to escape.
  const random = BigInt(`0x${randomBytes(20).toString('hex')}`)
    .toString(36)
    .padStart(31, '0')
  const key = `chk_${prefixOf[entry.kind]}_${random}`
  const { kind, ...rest } = entry
  const lines = stringify(
    { keys: { [name]: { kind, sha256: [sha256OfKey(key)], ...rest } } },
    { lineWidth: 0 },
  )
  return `The key. It is shown now and never again:

  ${key}

${fileLines} They hold no secret:

${lines}`
}

const fileLines = 'The lines for the file of CHUTE_KEYS_FILE, or of CHUTE_CONFIG.'
const prefixOf: Readonly<Record<KeyKind, string>> = { public: 'pub', secret: 'sec', admin: 'adm' }

function listOf(keys: readonly KeyConfig[]): string {
  const rows = keys.map((key) => [
    key.name,
    key.kind,
    key.sha256.length === 0 ? 'certificate' : String(key.sha256.length),
    key.streams.join(', ') || '–',
    key.origins.join(', ') || (keyKindTraits[key.kind].writes ? 'as CORS_ORIGINS' : '–'),
    key.sources?.length === 0
      ? 'none'
      : (key.sources?.join(', ') ?? (keyKindTraits[key.kind].writes ? 'any' : '–')),
    limitOf(key.limits),
    limitOf(key.addressLimits),
    key.notAfterMs === null
      ? 'never'
      : `${new Date(key.notAfterMs).toISOString()}${isOver(key) ? ' (over)' : ''}`,
  ])
  const head = ['name', 'kind', 'values', 'streams', 'origins', 'sources', 'limits', 'an address', 'ends']
  return `${alignTable([head, ...rows], 'left').join('\n')}\n`
}

function limitOf(limit: RateLimit | null): string {
  if (limit === null) return '–'
  const { windowMs, burst } = limit
  const counts = limitedQuantities.flatMap((each) => (limit[each] === null ? [] : `${limit[each]} ${each}`))
  return `${counts.join(', ')} in ${windowMs / 1_000} s${burst === 1 ? '' : ` × ${burst}`}`
}

function isOver({ notAfterMs }: KeyConfig): boolean {
  return notAfterMs !== null && notAfterMs <= Date.now()
}

const noKeys = 'there are no keys: neither CHUTE_KEYS_FILE nor keys: in the file of CHUTE_CONFIG has any\n'

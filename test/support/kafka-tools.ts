import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'

/** A batch as Kafka's own tool finds it in a log segment. */
export interface LoggedBatch {
  readonly topic: string
  readonly partition: number
  readonly baseOffset: number
  readonly recordCount: number
  readonly sizeBytes: number
  readonly codec: string
  /** The checksum that the batch carries is that of its bytes. */
  readonly isValid: boolean
  readonly magic: number
  readonly producerId: number
  readonly baseSequence: number
  readonly records: LoggedRecord[]
}

/** A record as Kafka's own tool finds it. */
export interface LoggedRecord {
  readonly offset: number
  readonly keyBytes: number
  readonly valueBytes: number
}

/**
 * Runs a command-line tool of Kafka's jars, with `input` on its standard input.
 * @returns what it wrote to standard output. Throws if it fails.
 */
export async function runKafkaTool(
  classpath: string,
  mainClass: string,
  args: readonly string[],
  input = '',
): Promise<string> {
  const child = spawn('java', [...jvmFlags, '-cp', classpath, mainClass, ...args])
  child.stdin.end(input)
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')])
  if (child.exitCode !== 0) throw new Error(`${mainClass} ended with ${child.exitCode}: ${stderr}${stdout}`)
  return stdout
}

/** Every batch of the topics in the log segments of a broker, read by Kafka's own DumpLogSegments. */
export async function dumpTopics(
  classpath: string,
  dataDir: string,
  ...topics: readonly string[]
): Promise<LoggedBatch[]> {
  const folders = readdirSync(dataDir).filter((name) => topics.includes(name.replace(/-\d+$/, '')))
  const files = folders.flatMap((folder) =>
    readdirSync(join(dataDir, folder))
      .filter((name) => name.endsWith('.log'))
      .map((name) => join(dataDir, folder, name)),
  )
  const args = ['--print-data-log', '--files', files.join(',')]
  return parseDump(await runKafkaTool(classpath, 'kafka.tools.DumpLogSegments', args))
}

function parseDump(output: string): LoggedBatch[] {
  const batches: LoggedBatch[] = []
  let [topic, partition] = ['', -1]
  for (const line of output.split('\n')) {
    const folder = /^Dumping .*\/(.*)-(\d+)\/\d+\.log$/.exec(line)
    if (folder !== null) [topic, partition] = [folder[1]!, Number(folder[2])]
    const { baseOffset, offset, ...fields } = fieldsOf(line)
    if (baseOffset !== undefined) {
      batches.push({
        topic,
        partition,
        baseOffset: Number(baseOffset),
        recordCount: Number(fields['count']),
        sizeBytes: Number(fields['size']),
        codec: fields['compresscodec'] ?? '',
        isValid: fields['isvalid'] === 'true',
        magic: Number(fields['magic']),
        producerId: Number(fields['producerId']),
        baseSequence: Number(fields['baseSequence']),
        records: [],
      })
    } else if (line.startsWith('| offset: ')) {
      const [keyBytes, valueBytes] = [Number(fields['keySize']), Number(fields['valueSize'])]
      batches.at(-1)!.records.push({ offset: Number(offset), keyBytes, valueBytes })
    }
  }
  return batches
}

/** `name: value` pairs of a line, before the payload of a record. */
function fieldsOf(line: string): Record<string, string> {
  const [head = ''] = line.split(' payload: ')
  return Object.fromEntries([...head.matchAll(/(\w+): (\S+)/g)].map(([, name, value]) => [name, value]))
}

/** Short-lived processes start fastest without the second compiler. */
const jvmFlags = ['-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC', '-Xshare:auto', '-Xmx256m']

import { execFileSync } from 'node:child_process'
import { cpus, totalmem } from 'node:os'
import { kafkaVersion } from '../src/local-kafka/kafka-jars.ts'
import { loadTool, usualConnections } from './load.ts'

/** Where a result comes from: without it a figure says nothing. */
export interface BenchEnvironment {
  readonly machine: string
  readonly node: string
  readonly kafka: string
  readonly load: string
  readonly command: string
  readonly commit: string
  readonly date: string
}

/** Describes this machine and this checkout. @param nodes of Kafka. */
export function describeEnvironment(command: string, nodes = 1): BenchEnvironment {
  const processors = cpus()
  return {
    machine: `${processors.length} × ${processors[0]?.model ?? 'unknown processor'}, ${Math.round(totalmem() / 2 ** 30)} GiB, shared with Kafka and the load`,
    node: process.version,
    kafka: `Apache Kafka ${kafkaVersion}, ${nodes === 1 ? 'one node' : `${nodes} nodes`}`,
    load: `load by ${loadTool}, ${usualConnections} connections`,
    command,
    commit:
      git('rev-parse', '--short', 'HEAD') +
      (git('status', '--porcelain', 'src') === '' ? '' : ' with changes'),
    date: new Date().toISOString().slice(0, 10),
  }
}

function git(...args: string[]): string {
  return execFileSync('git', args, { encoding: 'utf8' }).trim()
}

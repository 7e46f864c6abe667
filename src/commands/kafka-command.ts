import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { parseArgs } from 'node:util'
import { readCommandLine, wholeNumber } from './command-line.ts'
import { kafkaVersion, LocalKafkaError } from '../local-kafka/kafka-jars.ts'
import { startKafka, type LocalKafka } from '../local-kafka/local-kafka.ts'

const kafkaUsage = `usage: chute kafka [--nodes N]

A local Apache Kafka in the foreground, until Ctrl-C, which removes its data. It needs Java 17 and Maven, or Docker.

  --nodes N             a cluster of N nodes, 1 to 9 (1)

KAFKA_PORT is the port of the first node (9092); CHUTE_CACHE_DIR keeps what was downloaded (~/.cache/chute).
`

/**
 * `chute kafka [--nodes N]`: a local Apache Kafka in the foreground, until Ctrl-C. It runs with Java and Maven, or else in
 * Docker.
 * @returns the exit code of the process.
 */
export async function runKafkaCommand(argv: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  const commandLine = readCommandLine(argv, kafkaUsage, (words) => {
    const { values } = parseArgs({ args: [...words], options: { nodes: { type: 'string', default: '1' } } })
    return {
      nodes: wholeNumber('--nodes', values.nodes, 1, 9),
      port: wholeNumber('KAFKA_PORT', env['KAFKA_PORT'] ?? '9092', 1, 65_535),
    }
  })
  if (typeof commandLine === 'number') return commandLine
  const { nodes, port } = commandLine
  const stopped = stopSignal()
  let kafka: LocalKafka
  try {
    kafka = await startKafka({ nodes, port, env, onProgress: say })
  } catch (error) {
    if (!(error instanceof LocalKafkaError)) throw error
    const mayUseDocker = error.problem === 'no_java' || error.problem === 'no_maven'
    if (mayUseDocker && nodes === 1 && (await hasDocker())) return await runInDocker(port, stopped)
    process.stderr.write(`${error.message}\n`)
    return 1
  }
  say(`Apache Kafka ${kafkaVersion} is ready on ${kafka.brokers.join(',')}`)
  say(`  KAFKA_BROKERS=${kafka.brokers.join(',')} npm start`)
  say(
    'Ctrl-C stops it and removes its data, so gateways that run have to be restarted then. To try an outage, stop and continue its processes (kill -STOP, kill -CONT).',
  )
  await stopped
  say('stopping')
  await kafka.stop()
  return 0
}

/** @param stopped a signal has come. `docker run` gets no signal that was sent to this process alone. */
async function runInDocker(port: number, stopped: Promise<void>): Promise<number> {
  say('no Java with Maven here: starting Kafka in Docker')
  const settings = {
    KAFKA_NODE_ID: '1',
    KAFKA_PROCESS_ROLES: 'broker,controller',
    KAFKA_CONTROLLER_QUORUM_VOTERS: '1@localhost:9093',
    KAFKA_LISTENERS: `PLAINTEXT://:${port},CONTROLLER://:9093`,
    KAFKA_ADVERTISED_LISTENERS: `PLAINTEXT://localhost:${port}`,
    KAFKA_LISTENER_SECURITY_PROTOCOL_MAP: 'PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT',
    KAFKA_CONTROLLER_LISTENER_NAMES: 'CONTROLLER',
    KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR: '1',
    KAFKA_AUTO_CREATE_TOPICS_ENABLE: 'false',
  }
  const flags = Object.entries(settings).flatMap(([name, value]) => ['-e', `${name}=${value}`])
  const args = ['run', '--rm', '-p', `127.0.0.1:${port}:${port}`, ...flags, `apache/kafka:${kafkaVersion}`]
  const docker = spawn('docker', args, { stdio: 'inherit' })
  void stopped.then(() => docker.kill('SIGTERM'))
  const [code] = (await once(docker, 'exit')) as [number | null]
  return docker.killed ? 0 : (code ?? 1)
}

async function hasDocker(): Promise<boolean> {
  const docker = spawn('docker', ['info'], { stdio: 'ignore' })
  return await new Promise((resolve) => {
    docker.once('error', () => resolve(false))
    docker.once('exit', (code) => resolve(code === 0))
  })
}

async function stopSignal(): Promise<void> {
  await new Promise<void>((resolve) => {
    process.once('SIGINT', resolve)
    process.once('SIGTERM', resolve)
    // The terminal is gone.
    process.once('SIGHUP', resolve)
  })
}

function say(text: string): void {
  process.stdout.write(`${text}\n`)
}

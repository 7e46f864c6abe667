import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { choosePort, startGatewayProcess, type GatewayProcess } from '../dev/gateway-process.ts'
import { LocalKafkaError } from '../src/local-kafka/kafka-jars.ts'
import { startKafka, type LocalKafka } from '../src/local-kafka/local-kafka.ts'

/** What an example runs on: a gateway with the example's configuration, and a Kafka. */
export interface Stack {
  readonly url: string
  readonly broker: string
  /** Null where `KAFKA_BROKERS` names another one. */
  readonly kafka: LocalKafka | null
}

/** The command line of every example. */
export interface ExampleFlags {
  /** Nothing is broken on purpose. */
  readonly calm: boolean
  /** The example ends by itself, where it would wait for Ctrl-C. */
  readonly once: boolean
  /** A file to read, where the example reads one. */
  readonly file: string | undefined
}

/**
 * Starts a Kafka (unless `KAFKA_BROKERS` names one) and a gateway, runs an example on them, and stops both, whatever happens.
 * @param config the example's `chute.yaml`.
 * @param run returns whether the example showed what it is for.
 * @param more what else to set for the gateway.
 * @returns the process's exit code.
 */
export async function runExample(
  config: URL,
  run: (stack: Stack, flags: ExampleFlags) => Promise<boolean>,
  more: NodeJS.ProcessEnv = {},
): Promise<number> {
  const { values } = parseArgs({
    options: {
      calm: { type: 'boolean', default: false },
      once: { type: 'boolean', default: false },
      file: { type: 'string' },
    },
  })
  const interrupted = once(process, 'SIGINT')
  let kafka: LocalKafka | null = null
  let gateway: GatewayProcess | null = null
  try {
    const given = process.env['KAFKA_BROKERS']
    if (given === undefined) kafka = await startKafka({ onProgress: say })
    const broker = given ?? kafka!.brokers[0]!
    const port = await choosePort(Number(process.env['PORT'] ?? 8080), say)
    const env = { CHUTE_CONFIG: fileURLToPath(config), ...more }
    gateway = startGatewayProcess({ port, broker, env, say })
    await gateway.untilReady()
    say(`the gateway is up on ${gateway.url}`)
    const { calm, once: isOnce, file } = values
    const work = run({ url: gateway.url, broker, kafka }, { calm, once: isOnce, file })
    const shown = await Promise.race([work, interrupted.then(() => null)])
    return shown === null ? 130 : shown ? 0 : 1
  } catch (error) {
    if (!(error instanceof LocalKafkaError)) throw error
    say(error.message)
    return 1
  } finally {
    await gateway?.stop()
    await kafka?.stop()
  }
}

/** A line for whoever runs the example. */
export function say(text: string): void {
  process.stdout.write(`${text}\n`)
}

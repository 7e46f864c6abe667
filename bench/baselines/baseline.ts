import Fastify, { type FastifyInstance } from 'fastify'
import { Kafka, logLevel, type Message, type Producer } from 'kafkajs'

/** What the baselines that write to Kafka share: the usual way to do it, without any of Chute's code. */
export interface Baseline {
  readonly app: FastifyInstance
  readonly producer: Producer
  readonly topic: string
  /** Counts events as accepted; `GET /accepted` tells how many. */
  readonly accept: (events: number) => void
}

/** A Fastify server with an open kafkajs producer. `BENCH_TOPIC` is its topic. */
export async function startBaseline(): Promise<Baseline> {
  const topic = process.env['BENCH_TOPIC']!
  const kafka = new Kafka({
    clientId: 'baseline',
    brokers: process.env['KAFKA_BROKERS']!.split(','),
    logLevel: logLevel.NOTHING,
  })
  const producer = kafka.producer({ allowAutoTopicCreation: false })
  await producer.connect()
  const app = Fastify()
  let accepted = 0
  app.addContentTypeParser('application/x-ndjson', { parseAs: 'string' }, (_request, text, done) => {
    done(
      null,
      (text as string).split('\n').map((line) => JSON.parse(line) as unknown),
    )
  })
  app.get('/accepted', () => ({ accepted }))
  return { app, producer, topic, accept: (events) => (accepted += events) }
}

/** The events of a parsed body as kafkajs's messages. */
export function messagesOf(body: unknown): Message[] {
  const events = (Array.isArray(body) ? body : [body]) as { readonly source?: string }[]
  return events.map((event) => ({ key: event.source ?? null, value: JSON.stringify(event) }))
}

/** Listens where the bench wants it. */
export async function listen(app: FastifyInstance): Promise<void> {
  await app.listen({ host: '127.0.0.1', port: Number(process.env['PORT']) })
}

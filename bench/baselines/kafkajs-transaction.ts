import { Kafka, logLevel } from 'kafkajs'
import { messagesOf, listen, startBaseline } from './baseline.ts'

/** Exactly once: a transaction a request, committed before the reply. For the comparison only; Chute has no transactions. */
const { app, topic, accept } = await startBaseline()
const kafka = new Kafka({
  clientId: 'transactions',
  brokers: process.env['KAFKA_BROKERS']!.split(','),
  logLevel: logLevel.NOTHING,
  // The broker refuses a transaction that follows the last too closely; kafkajs would wait 300 ms to try again.
  retry: { initialRetryTime: 5, maxRetryTime: 50, retries: 100 },
})
const producer = kafka.producer({ transactionalId: 'bench', idempotent: true, maxInFlightRequests: 1 })
await producer.connect()
let previous: Promise<unknown> = Promise.resolve()

app.post('/v1/streams/metrics-realtime', async (request, reply) => {
  const messages = messagesOf(request.body)
  const done = previous.then(async () => await commit(messages))
  previous = done.catch(() => {})
  await done
  accept(messages.length)
  return await reply.send({ accepted: messages.length, rejected: 0, errors: [] })
})
await listen(app)

/** A producer has one transaction at a time. */
async function commit(messages: ReturnType<typeof messagesOf>): Promise<void> {
  const transaction = await producer.transaction()
  await transaction.send({ topic, acks: -1, messages })
  await transaction.commit()
}

import type { Message } from 'kafkajs'
import { listen, messagesOf, startBaseline } from './baseline.ts'

/** A handler that answers 202 at once; every 5 ms what has come goes to kafkajs's `sendBatch`, acks=0, one call at a time. */
const { app, producer, topic, accept } = await startBaseline()
let waiting: Message[] = []

app.post('/v1/streams/metrics-realtime', (request, reply) => {
  const messages = messagesOf(request.body)
  for (const message of messages) waiting.push(message)
  accept(messages.length)
  void reply.code(202).send({ accepted: messages.length, rejected: 0, errors: [] })
})
await listen(app)
await flushForever()

async function flushForever(): Promise<never> {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, 5))
    // Above about 1,000 messages a call kafkajs gets slower with each (it groups them in quadratic time).
    while (waiting.length > 0) {
      const messages = waiting.slice(0, 1_000)
      waiting = waiting.slice(1_000)
      await producer.sendBatch({ acks: 0, topicMessages: [{ topic, messages }] })
      await new Promise((resolve) => setImmediate(resolve))
    }
  }
}

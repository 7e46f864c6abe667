import { listen, messagesOf, startBaseline } from './baseline.ts'

/** A handler that hands each request to kafkajs, acks=0, and answers 202 once `send` is done. */
const { app, producer, topic, accept } = await startBaseline()
app.post('/v1/streams/metrics-realtime', async (request, reply) => {
  const messages = messagesOf(request.body)
  await producer.send({ topic, acks: 0, messages })
  accept(messages.length)
  return await reply.code(202).send({ accepted: messages.length, rejected: 0, errors: [] })
})
await listen(app)

import Fastify from 'fastify'

/** Fastify and nothing else: parses the JSON, answers 202. What the gateway's share of a request is measured against. */
const app = Fastify()
app.post('/v1/streams/metrics-realtime', (_request, reply) => {
  void reply.code(202).send({ accepted: 1, rejected: 0, errors: [] })
})
await app.listen({ host: '127.0.0.1', port: Number(process.env['PORT']) })

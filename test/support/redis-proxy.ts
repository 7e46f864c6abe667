import { connect, createServer, type AddressInfo, type Socket } from 'node:net'

/** What stands between a gateway and its Redis. */
export interface RedisProxy {
  readonly port: number
  /** From now on Redis does as it is told, and its answers get lost; until {@link pass}. */
  holdAnswers(): void
  /** In the place of Redis's next answer the connection ends. */
  cutAtNextAnswer(): void
  pass(): void
  close(): void
}

/** Passes on what a gateway says to Redis, and what Redis says. */
export async function startRedisProxy(redisPort: number): Promise<RedisProxy> {
  let mode: 'pass' | 'hold' | 'cut' = 'pass'
  const sockets = new Set<Socket>()
  const server = createServer((client) => {
    const redis = connect(redisPort, '127.0.0.1')
    const end = (): void => {
      for (const socket of [client, redis]) {
        sockets.delete(socket)
        socket.destroy()
      }
    }
    client.on('data', (bytes) => redis.write(bytes))
    redis.on('data', (bytes) => {
      if (mode === 'pass') client.write(bytes)
      if (mode !== 'cut') return
      mode = 'pass'
      end()
    })
    for (const socket of [client, redis]) {
      sockets.add(socket)
      socket.on('error', () => {}).on('close', end)
    }
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    port: (server.address() as AddressInfo).port,
    holdAnswers: () => (mode = 'hold'),
    cutAtNextAnswer: () => (mode = 'cut'),
    pass: () => (mode = 'pass'),
    close: () => {
      server.close()
      for (const socket of sockets) socket.destroy()
    },
  }
}

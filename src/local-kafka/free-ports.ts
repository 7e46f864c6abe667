import { createServer, type AddressInfo, type Server } from 'node:net'

/** Stands for a port that is free. */
export const anyPort = 0

/**
 * Ports of 127.0.0.1 that are free now: the wanted ones, and any in the place of {@link anyPort}. All of them are held until the last one is chosen, so
 * that none is chosen twice.
 *
 * Those that nobody wanted are below the ports that the kernel gives to connections (`ip_local_port_range` of Linux). There, a connection of
 * any process can take a port before its server listens, and a client that tries to reach a server that is down can be given the port of that server, and
 * then talks to itself.
 * @param isTaken makes the error for a wanted port that is taken.
 */
export async function choosePorts(
  wanted: readonly number[],
  isTaken: (port: number) => Error,
): Promise<number[]> {
  const servers: Server[] = []
  try {
    for (const port of wanted) {
      const server = port === anyPort ? await holdAny() : await hold(port)
      if (server === null) throw isTaken(port)
      servers.push(server)
    }
    return servers.map((server) => (server.address() as AddressInfo).port)
  } finally {
    await Promise.all(servers.map(async (server) => await new Promise((resolve) => server.close(resolve))))
  }
}

async function holdAny(): Promise<Server> {
  for (;;) {
    const port = lowestPort + Math.floor(Math.random() * (lowestOfConnections - lowestPort))
    const server = await hold(port)
    if (server !== null) return server
  }
}

/** @returns null: the port is taken, or this user may not have it. */
async function hold(port: number): Promise<Server | null> {
  const server = createServer()
  return await new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE' || error.code === 'EACCES') resolve(null)
      else reject(error)
    })
    server.listen(port, '127.0.0.1', () => resolve(server))
  })
}

const lowestPort = 10_000
/** The usual range of Linux begins here, and that of other systems further up (RFC 6335, section 6). */
const lowestOfConnections = 32_768

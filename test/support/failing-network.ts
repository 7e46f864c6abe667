import { connect, createServer, type AddressInfo, type Socket } from 'node:net'

/**
 * What happens to one request: it passes; its connection ends before a byte of it has arrived, in the middle of it, or after the
 * gateway has answered and before the client has the answer.
 */
export type NetworkFault = 'none' | 'nothing arrives' | 'cut request' | 'cut answer'

/** A network between clients and a gateway. */
export interface FailingNetwork {
  readonly port: number
  /** The faults that are still to come, one a request. When they are used up, every request passes. */
  readonly faults: NetworkFault[]
  close(): void
}

/** Begins to pass requests on to a gateway, with these faults. A client sends one request at a time. */
export async function startFailingNetwork(
  gatewayPort: number,
  faults: readonly NetworkFault[],
): Promise<FailingNetwork> {
  const left = [...faults]
  const sockets = new Set<Socket>()
  const server = createServer((client) => {
    const gateway = connect(gatewayPort, '127.0.0.1')
    /** Of the request that is under way; null between two requests. */
    let fault: NetworkFault | null = null
    const end = (): void => {
      for (const socket of [client, gateway]) {
        sockets.delete(socket)
        socket.destroy()
      }
    }
    client.on('data', (bytes) => {
      fault ??= left.shift() ?? 'none'
      if (fault === 'nothing arrives') end()
      else if (fault === 'cut request') gateway.write(bytes.subarray(0, bytes.length >> 1), end)
      else gateway.write(bytes)
    })
    gateway.on('data', (bytes) => {
      if (fault === 'cut answer') return end()
      fault = null
      client.write(bytes)
    })
    for (const socket of [client, gateway]) {
      sockets.add(socket)
      socket.on('error', () => {}).on('close', end)
    }
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    port: (server.address() as AddressInfo).port,
    faults: left,
    close() {
      server.close()
      for (const socket of sockets) socket.destroy()
    },
  }
}

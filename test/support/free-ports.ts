import { anyPort, choosePorts } from '../../src/local-kafka/free-ports.ts'

/** Ports of 127.0.0.1 that are free now. None comes twice. */
export async function freePorts(count: number): Promise<number[]> {
  return await choosePorts(
    Array.from({ length: count }, () => anyPort),
    (port) => new Error(`port ${port} is taken`),
  )
}

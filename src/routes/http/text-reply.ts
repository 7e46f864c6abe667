import { setImmediate as nextTurn } from 'node:timers/promises'
import { promisify } from 'node:util'
import { constants, gzip } from 'node:zlib'
import { readAccept } from '../../accept-header.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'

const compress = promisify(gzip)

/**
 * Sends a long text that is written line by line. Each turn of the event loop writes one slice of one text, however many
 * clients ask for texts, so that no other request waits for a text. Another thread compresses the text for a client that
 * asks for gzip.
 * @param lines is read when all texts that were asked for before are written.
 */
export async function replyWritten(
  request: FastifyRequest,
  reply: FastifyReply,
  lines: Iterable<string>,
): Promise<FastifyReply> {
  const text = await afterOthers(async () => await write(lines))
  if (!acceptsGzip(request.headers['accept-encoding'])) return reply.send(text)
  const zipped = await compress(text, { level: constants.Z_BEST_SPEED })
  return reply.header('content-encoding', 'gzip').send(zipped)
}

/** Resolves when the last text that was asked for is written. */
let last: Promise<unknown> = Promise.resolve()

async function afterOthers<T>(work: () => Promise<T>): Promise<T> {
  const mine = last.then(work)
  const end = (): void => {}
  last = mine.then(end, end)
  return await mine
}

async function write(lines: Iterable<string>): Promise<Buffer> {
  const slices: Buffer[] = []
  let slice = ''
  for (const line of lines) {
    slice += line
    if (slice.length < sliceLength) continue
    slices.push(Buffer.from(slice))
    slice = ''
    await nextTurn()
  }
  slices.push(Buffer.from(slice))
  // The next text begins in another turn.
  await nextTurn()
  return Buffer.concat(slices)
}

/** Whether the client asks for gzip (RFC 9110, section 12.5.3). A request without the header allows gzip, and does not ask for it. */
export function acceptsGzip(header: string | undefined): boolean {
  const qualities = new Map(readAccept(header).map(({ name, quality }) => [name, quality]))
  return (qualities.get('gzip') ?? qualities.get('x-gzip') ?? qualities.get('*') ?? 0) > 0
}

/** Number of characters that one turn writes. It takes about a millisecond. */
const sliceLength = 16_384

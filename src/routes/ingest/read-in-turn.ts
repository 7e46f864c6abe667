import type { FastifyReply } from 'fastify'
import type { HttpLimits } from '../../config/limits.ts'
import { GatewayError } from '../../errors.ts'
import {
  inflateGzip,
  isGzip,
  readBody,
  type BodyListener,
  type BodySource,
} from '../../events/body-reader.ts'
import type { BodyPlace, Bounds } from '../http/bounds.ts'
import { whenFewWait } from './in-turns.ts'

/**
 * Reads a body, if there is a place among the bodies that are being read: if there is none, the listener gets the problem. A huge body is not
 * read while other bodies wait for their turn. A body that is inflated has its place until its end.
 * @param request.mayBeGzip a body that begins as gzip does is inflated, whatever its header says.
 */
export function readInTurn(
  { bounds, limits }: { readonly bounds: Bounds; readonly limits: HttpLimits },
  { reply, source, mayBeGzip }: { reply: FastifyReply; source: BodySource; mayBeGzip: boolean },
  listener: BodyListener,
): void {
  const place = bounds.beginBody(reply.request)
  if (place instanceof GatewayError) {
    listener(place, empty, 0)
    return
  }
  const { onBody } = new BodyInPlace(bounds, place, {
    listener,
    gzipLimitBytes: mayBeGzip ? limits.bodyBytes : 0,
  })
  if (Number(source.headers['content-length']) < hugeBodyBytes) read(source, reply, limits.bodyBytes, onBody)
  else whenFewWait(() => read(source, reply, limits.bodyBytes, onBody))
}

function read(source: BodySource, reply: FastifyReply, limitBytes: number, listener: BodyListener): void {
  // A client that went away, while its turn or the limits were awaited, sends no more, and nobody would be told.
  if (source.destroyed || reply.raw.headersSent) listener('aborted', empty, 0)
  else readBody(source, limitBytes, listener)
}

/** A body that has its place among those that are being read. One object and one function a body: every request makes them. */
class BodyInPlace {
  readonly #bounds: Bounds
  readonly #place: BodyPlace
  readonly #options: { readonly listener: BodyListener; readonly gzipLimitBytes: number }

  /** @param options.gzipLimitBytes what a body that begins as gzip does may be inflated to; 0: it is left as it is. */
  constructor(bounds: Bounds, place: BodyPlace, options: { listener: BodyListener; gzipLimitBytes: number }) {
    this.#bounds = bounds
    this.#place = place
    this.#options = options
  }

  readonly onBody: BodyListener = (error, body, readBytes) => {
    const { gzipLimitBytes } = this.#options
    if (gzipLimitBytes > 0 && error === null && isGzip(body))
      inflateGzip(body, gzipLimitBytes, (flaw, inflated, inflatedBytes) =>
        this.#end(flaw, inflated, inflatedBytes),
      )
    else this.#end(error, body, readBytes)
  }

  #end(error: GatewayError | 'aborted' | null, body: Buffer, readBytes: number): void {
    this.#bounds.endBody(this.#place)
    this.#options.listener(error, body, readBytes)
  }
}

const empty = Buffer.alloc(0)
/** A body of this size is not read while others wait for their turn. */
const hugeBodyBytes = 131_072

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
import type { Bounds } from '../http/bounds.ts'
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
    listener(place, empty)
    return
  }
  const { bodyBytes } = limits
  const onEnd: BodyListener = (error, body) => {
    bounds.endBody(place)
    listener(error, body)
  }
  const onBody: BodyListener = (error, body) => {
    if (mayBeGzip && error === null && isGzip(body)) inflateGzip(body, bodyBytes, onEnd)
    else onEnd(error, body)
  }
  const read = (): void => {
    // A client that went away, while its turn or the limits were awaited, sends no more, and nobody would be told.
    if (source.destroyed || reply.raw.headersSent) onBody('aborted', empty)
    else readBody(source, bodyBytes, onBody)
  }
  if (Number(source.headers['content-length']) < hugeBodyBytes) read()
  else whenFewWait(read)
}

const empty = Buffer.alloc(0)
/** A body of this size is not read while others wait for their turn. */
const hugeBodyBytes = 131_072

import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import { errorTable, GatewayError, type ErrorCode } from '../../errors.ts'
import { supportedEncodings } from '../../events/body-reader.ts'
import type { Logger } from '../../logger.ts'
import { replyRawAndClose } from './raw-reply.ts'
import { idsOf } from './request-ids.ts'

/** A problem as it is sent (RFC 9457, section 3). Clients branch on its `code`. */
export interface Problem {
  readonly type: string
  readonly title: string
  readonly status: number
  readonly detail: string
  readonly code: ErrorCode
  readonly [extension: string]: unknown
}

/** The problem of an error. It has neither the cause nor the stack of the error. */
export function toProblem(error: GatewayError): Problem {
  const { status, title } = errorTable[error.code]
  return {
    // Relative to the gateway, where the documentation lists the codes.
    type: `/docs#${error.code}`,
    title,
    status,
    detail: error.message,
    code: error.code,
    ...error.extensions,
  }
}

/** Answers with a problem. If much of the request's body is left, it is thrown away, and the connection is closed. */
export function replyProblem(reply: FastifyReply, error: GatewayError): void {
  const { headers, body } = last?.error === error ? last : write(error)
  replyRawAndClose(reply, error.status, headers, body)
}

/** A problem as it is sent. */
interface Written {
  readonly error: GatewayError
  readonly headers: readonly string[]
  readonly body: string
}

/** A client that floods gets one problem again and again (`policy/rate-limit.ts`). Others can be large, and do not come again. */
let last: Written | null = null

function write(error: GatewayError): Written {
  const written = { error, headers: problemHeaders(error), body: JSON.stringify(toProblem(error)) }
  if (error.code === 'rate_limited') last = written
  return written
}

/** The header fields of a problem, names and values in turn, without its length. */
export function problemHeaders(error: GatewayError): string[] {
  const headers = ['content-type', 'application/problem+json', 'cache-control', 'no-store']
  if (error.retryAfterSeconds !== null) headers.push('retry-after', String(error.retryAfterSeconds))
  // The client learns which codings the gateway takes (RFC 9110, section 12.5.3).
  if (error.code === 'unsupported_encoding') headers.push('accept-encoding', supportedEncodings)
  return headers
}

/**
 * Makes an error that a client may see of anything that was thrown. An error of Fastify is translated by its status. Everything
 * else is a bug of the gateway: the bug is logged, and the client does not see its message.
 * @param request the log names it; null: there is none.
 */
export function toGatewayError(error: unknown, logger: Logger, request: FastifyRequest | null): GatewayError {
  if (error instanceof GatewayError) return error
  const { statusCode, code } = (error ?? {}) as Partial<FastifyError>
  if (code === 'FST_ERR_BAD_URL') {
    return new GatewayError('invalid_request', 'the path is not well-formed', { cause: error })
  }
  if (code === 'FST_ERR_MAX_PARAM_LENGTH') {
    return new GatewayError('not_found', 'a part of the path is too long', { cause: error })
  }
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500) {
    return new GatewayError('invalid_request', 'the request cannot be read', { cause: error })
  }
  logger.error(
    { err: error, ...(request !== null && idsOf(request)) },
    'a request failed by a fault of the gateway',
  )
  return new GatewayError('internal', 'this is a fault of the gateway', { cause: error })
}

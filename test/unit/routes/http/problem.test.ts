import { describe, expect, test } from 'vitest'
import { errorTable, GatewayError, type ErrorCode } from '../../../../src/errors.ts'
import type { Logger } from '../../../../src/logger.ts'
import { toGatewayError, toProblem } from '../../../../src/routes/http/problem.ts'

describe('toProblem', () => {
  test.each(Object.keys(errorTable) as ErrorCode[])(
    'has the members of RFC 9457 and the code: %s',
    (code) => {
      const error = new GatewayError(code, 'why', { extensions: { limit: 1 }, cause: new Error('secret') })
      expect(toProblem(error)).toEqual({
        type: `/docs#${code}`,
        title: errorTable[code].title,
        status: errorTable[code].status,
        detail: 'why',
        code,
        limit: 1,
      })
    },
  )
})

function nothing(): void {}

describe('toGatewayError', () => {
  const loggerTo = (faults: object[]): Logger => ({
    debug: nothing,
    info: nothing,
    warn: nothing,
    error: (fields) => faults.push(fields),
  })

  test('logs a bug, and lets its message stay inside', () => {
    const faults: object[] = []
    const bug = new Error('password is hunter2')
    const error = toGatewayError(bug, loggerTo(faults), null)
    expect(error.code).toBe('internal')
    expect(JSON.stringify(toProblem(error))).not.toContain('hunter2')
    expect(faults).toEqual([{ err: bug }])
  })

  test.each([undefined, null, 'text', 7])('takes %j, which somebody threw, for a bug', (thrown) => {
    expect(toGatewayError(thrown, loggerTo([]), null).code).toBe('internal')
  })

  test.each([
    [{ statusCode: 400 }, 'invalid_request'],
    [{ statusCode: 500 }, 'internal'],
    [{ statusCode: 404, code: 'FST_ERR_MAX_PARAM_LENGTH' }, 'not_found'],
    [{ code: 'FST_ERR_BAD_URL' }, 'invalid_request'],
  ])('reads who is to blame from an error of Fastify: %j', (fields, code) => {
    expect(toGatewayError(Object.assign(new Error('x'), fields), loggerTo([]), null).code).toBe(code)
  })
})

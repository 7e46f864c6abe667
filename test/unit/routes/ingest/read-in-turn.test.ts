import { Readable } from 'node:stream'
import { gzipSync } from 'node:zlib'
import type { FastifyReply } from 'fastify'
import { expect, test } from 'vitest'
import type { HttpLimits } from '../../../../src/config/limits.ts'
import { Bounds } from '../../../../src/routes/http/bounds.ts'
import { readInTurn } from '../../../../src/routes/ingest/read-in-turn.ts'

const silent = { debug() {}, info() {}, warn() {}, error() {} }
const limits = { bodyBytes: 1 << 20 } as HttpLimits
const reply = { request: { ip: '127.0.0.1' }, raw: { headersSent: false } } as FastifyReply

test.each([
  ['that its header calls gzip', 'gzip', false],
  ['that is known by its first bytes', undefined, true],
])(
  'a compressed body %s has its place among the bodies until it is inflated',
  async (_what, encoding, mayBeGzip) => {
    const bounds = new Bounds({
      bounds: { connections: 1, connectionsPerAddress: null, bodies: 1, bodiesPerAddress: null },
      lookUp: () => ({ network: '', isAllowed: false }),
      logger: silent,
    })
    const zipped = gzipSync(Buffer.alloc(1 << 20, 'x'))
    const coding = encoding === undefined ? {} : { 'content-encoding': encoding }
    const headers = { 'content-length': String(zipped.length), ...coding }
    const source = Object.assign(Readable.from([zipped]), { headers })
    let atEnd: number | null = null
    const body = await new Promise<Buffer>((resolve) => {
      readInTurn({ bounds, limits }, { reply, source, mayBeGzip }, (_error, whole) => resolve(whole))
      source.on('end', () => (atEnd = bounds.bodies))
    })
    expect(body.length).toBe(1 << 20)
    expect(atEnd).toBe(1)
    expect(bounds.bodies).toBe(0)
  },
)

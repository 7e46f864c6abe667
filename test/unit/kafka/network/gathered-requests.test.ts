import { describe, expect, test } from 'vitest'
import { GatheredRequests } from '../../../../src/kafka/network/gathered-requests.ts'
import type { BrokerConnection } from '../../../../src/kafka/network/transport.ts'
import {
  decodeListOffsets,
  encodeListOffsets,
  encodeMetadata,
  encodeProduce,
} from '../../../../src/kafka/protocol/requests.ts'
import type { WireRequest } from '../../../../src/kafka/protocol/wire.ts'
import { ModelWriter } from '../../../support/model-wire.ts'

interface Owner {
  name: string
  isOpen: boolean
  maxRequestBytes: number
}

/** Keeps what it is given. An answer is the number of the request. */
class KeptRequests {
  readonly requests: WireRequest[] = []
  readonly answers: ((payload: Buffer) => void)[] = []
  readonly flushes: (() => void)[] = []

  get connection(): BrokerConnection {
    return {
      send: (request: WireRequest, onFlushed: () => void) => {
        this.requests.push(request)
        this.flushes.push(onFlushed)
      },
      call: (request: WireRequest, onResponse: (payload: Buffer) => void) => {
        this.requests.push(request)
        this.answers.push(onResponse)
      },
    } as unknown as BrokerConnection
  }

  /** Kind and topics of each request. */
  get kinds(): string[] {
    return this.requests.map(({ apiName, chunks }) => {
      const body = Buffer.concat(chunks)
      const topics = [...body.toString('latin1').matchAll(/topic-\w/g)].map(([name]) => name.slice(6))
      return `${apiName} ${topics.join('')}`
    })
  }
}

function produce(topic: string, acks: 0 | 1 = 0, sizeBytes = 10): WireRequest {
  return encodeProduce(`topic-${topic}`, acks, 100, [
    { partition: 0, sizeBytes, seal: () => Buffer.alloc(sizeBytes) },
  ])
}

function setUp() {
  const gathered = new GatheredRequests<Owner>()
  const kept = new KeptRequests()
  const owner = (name: string, maxRequestBytes = 1 << 20): Owner => ({ name, isOpen: true, maxRequestBytes })
  const flushed: string[] = []
  const send = (by: Owner, request: WireRequest, sizeBytes = 10): void =>
    gathered.add({
      owner: by,
      request,
      sizeBytes,
      onFlushed: () => flushed.push(by.name),
      onResponse: null,
      onError: null,
    })
  const answered: [string, unknown][] = []
  const call = (by: Owner, request: WireRequest): void =>
    gathered.add({
      owner: by,
      request,
      sizeBytes: 10,
      onFlushed: null,
      onResponse: (payload) => answered.push([by.name, decodeListOffsets(payload)]),
      onError: () => {},
    })
  return { gathered, kept, owner, send, call, flushed, answered }
}

const logEnd = (topic: string): WireRequest => encodeListOffsets(`topic-${topic}`, [0], 'log_end')
const highWatermark = (topic: string): WireRequest =>
  encodeListOffsets(`topic-${topic}`, [0], 'high_watermark')

describe('requests of one turn', () => {
  test('about different topics become one for each kind, and a barrier stays behind its write', () => {
    const { gathered, kept, owner, send, call, flushed } = setUp()
    for (const name of ['a', 'b', 'c']) {
      const by = owner(name)
      send(by, produce(name))
      call(by, logEnd(name))
      call(by, highWatermark(name))
    }
    gathered.writeTo(kept.connection)
    expect(kept.kinds).toEqual(['Produce abc', 'ListOffsets abc', 'ListOffsets abc'])
    for (const flush of kept.flushes) flush()
    expect(flushed).toEqual(['a', 'b', 'c'])
    expect(gathered.isEmpty).toBe(true)
  })

  test('of one owner keep their order, whatever the others joined', () => {
    const { gathered, kept, owner, send, call } = setUp()
    const [a, b] = [owner('a'), owner('b')]
    call(a, logEnd('a'))
    send(a, produce('a'))
    send(b, produce('b'))
    call(b, logEnd('b'))
    send(a, produce('a'))
    gathered.writeTo(kept.connection)
    expect(kept.kinds).toEqual(['ListOffsets a', 'Produce ab', 'ListOffsets b', 'Produce a'])
  })

  test('about one topic are never joined, whoever makes them: a broker would keep one of them', () => {
    const { gathered, kept, owner, send } = setUp()
    send(owner('one'), produce('a'))
    send(owner('other'), produce('a'))
    gathered.writeTo(kept.connection)
    expect(kept.kinds).toEqual(['Produce a', 'Produce a'])
  })

  test('with other acks, about another end of the log, or about no topic are not joined', () => {
    const { gathered, kept, owner, send, call } = setUp()
    send(owner('a'), produce('a', 0))
    call(owner('b'), produce('b', 1))
    call(owner('c'), logEnd('c'))
    call(owner('d'), highWatermark('d'))
    call(owner('e'), encodeMetadata([]))
    call(owner('f'), encodeMetadata([]))
    gathered.writeTo(kept.connection)
    expect(kept.requests).toHaveLength(6)
  })

  test('are joined up to max.request.size of each of their streams', () => {
    const { gathered, kept, owner, send } = setUp()
    for (const name of ['a', 'b', 'c']) send(owner(name), produce(name), 500_000)
    send(owner('d', 400_000), produce('d'), 10)
    send(owner('e', 400_000), produce('e'), 500_000)
    expect(gathered.bytes).toBe(2_000_010)
    gathered.writeTo(kept.connection)
    expect(kept.kinds).toEqual(['Produce ab', 'Produce c', 'Produce d', 'Produce e'])
  })

  test('of an owner that has left are left out', () => {
    const { gathered, kept, owner, call } = setUp()
    const gone = owner('a')
    call(gone, logEnd('a'))
    call(owner('b'), logEnd('b'))
    gone.isOpen = false
    gathered.writeTo(kept.connection)
    expect(kept.kinds).toEqual(['ListOffsets b'])
  })
})

describe('an answer about several topics', () => {
  test('is split: each owner gets its own part, in whatever order the broker has them', () => {
    const { gathered, kept, owner, call, answered } = setUp()
    call(owner('a'), logEnd('a'))
    call(owner('b'), logEnd('b'))
    gathered.writeTo(kept.connection)
    kept.answers[0]!(
      offsets([
        ['topic-b', 7],
        ['topic-a', 5],
      ]),
    )
    expect(answered).toEqual([
      ['a', [{ partition: 0, errorCode: 0, offset: 5n, leaderEpoch: 3 }]],
      ['b', [{ partition: 0, errorCode: 0, offset: 7n, leaderEpoch: 3 }]],
    ])
  })

  test('that leaves a topic out, or ends too early, is an error of the connection', () => {
    const { gathered, kept, owner, call } = setUp()
    call(owner('a'), logEnd('a'))
    call(owner('b'), logEnd('b'))
    gathered.writeTo(kept.connection)
    expect(() => kept.answers[0]!(offsets([['topic-b', 7]]))).toThrow(RangeError)
    const whole = offsets([
      ['topic-b', 7],
      ['topic-a', 5],
    ])
    expect(() => kept.answers[0]!(whole.subarray(0, whole.length - 1))).toThrow(RangeError)
  })
})

function offsets(topics: [string, number][]): Buffer {
  const writer = new ModelWriter().int32(0)
  writer.array(topics, ([name, offset]) => {
    writer.string(name).int32(1).int32(0).int16(0).int64(-1).int64(offset).int32(3)
  })
  return writer.done()
}

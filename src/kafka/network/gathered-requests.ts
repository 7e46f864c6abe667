import { joinTopics, splitTopics } from '../protocol/requests.ts'
import type { WireRequest } from '../protocol/wire.ts'
import type { BrokerConnection } from './transport.ts'

/**
 * The requests of one turn of the event loop for one broker, from many owners. Requests of one kind about different topics become one request.
 * The requests of one owner keep their order, so a question behind a write stays behind the write.
 */
export class GatheredRequests<Owner extends RequestOwner> {
  #groups: Group<Owner>[] = []
  /** The group of the last request of each owner. */
  readonly #last = new Map<Owner, number>()
  #bytes = 0

  /** Size of the requests that wait, without their frames, in bytes. */
  get bytes(): number {
    return this.#bytes
  }

  /** Nothing waits. */
  get isEmpty(): boolean {
    return this.#groups.length === 0
  }

  /** Adds a request. */
  add(gathered: GatheredRequest<Owner>): void {
    const { owner, request, sizeBytes } = gathered
    this.#bytes += sizeBytes
    const { joinable } = request
    const groups = this.#groups
    let at = groups.length
    if (joinable !== undefined) {
      const first = (this.#last.get(owner) ?? -1) + 1
      for (let i = first; i < groups.length; i++) {
        if (!takes(groups[i]!, gathered)) continue
        at = i
        break
      }
    }
    this.#last.set(owner, at)
    const group = groups[at]
    if (group === undefined) {
      groups.push({ requests: [gathered], topics: null, sizeBytes, maxBytes: owner.maxRequestBytes })
      return
    }
    group.topics ??= new Set([group.requests[0]!.request.joinable!.topic])
    group.topics.add(joinable!.topic)
    group.requests.push(gathered)
    group.sizeBytes += sizeBytes
    group.maxBytes = Math.min(group.maxBytes, owner.maxRequestBytes)
  }

  /** Gives all requests to the connection. Those of owners that have left in the meantime are left out. */
  writeTo(connection: Pick<BrokerConnection, 'send' | 'call'>): void {
    const groups = this.#groups
    this.clear()
    for (const { requests } of groups) {
      const wanted = requests.filter(({ owner }) => owner.isOpen)
      if (wanted.length > 0) write(wanted, connection)
    }
  }

  /** Forgets all requests. */
  clear(): void {
    this.#groups = []
    this.#last.clear()
    this.#bytes = 0
  }
}

function takes<Owner extends RequestOwner>(
  { requests, topics, sizeBytes, maxBytes }: Group<Owner>,
  { owner, request, sizeBytes: more, onResponse }: GatheredRequest<Owner>,
): boolean {
  const { request: first, onResponse: firstOnResponse } = requests[0]!
  const { joinable } = request
  return (
    first.joinable !== undefined &&
    first.apiKey === request.apiKey &&
    first.joinable.headKey === joinable!.headKey &&
    (firstOnResponse === null) === (onResponse === null) &&
    !(topics === null ? first.joinable.topic === joinable!.topic : topics.has(joinable!.topic)) &&
    sizeBytes + more <= Math.min(maxBytes, owner.maxRequestBytes)
  )
}

function write<Owner>(
  requests: readonly GatheredRequest<Owner>[],
  connection: Pick<BrokerConnection, 'send' | 'call'>,
): void {
  const first = requests[0]!
  const request = joinTopics(requests.map((each) => each.request))
  if (first.onResponse === null) {
    connection.send(request, () => {
      for (const { onFlushed } of requests) onFlushed!()
    })
    return
  }
  connection.call(
    request,
    (payload) => {
      if (requests.length === 1) return first.onResponse!(payload)
      const parts = splitTopics(request.apiName, payload)
      for (const { request: own, onResponse } of requests) {
        const part = parts.get(own.joinable!.topic)
        if (part === undefined) throw new RangeError(`nothing about ${own.joinable!.topic} is in the answer`)
        onResponse!(part)
      }
    },
    (error) => {
      for (const { onError } of requests) onError!(error)
    },
  )
}

/** Who makes requests. */
export interface RequestOwner {
  readonly isOpen: boolean
  /**
   * `max.request.size`. A request that is joined is no larger than that of each of its owners. A request that is larger by itself goes
   * alone.
   */
  readonly maxRequestBytes: number
}

/** A request that waits for the end of the turn. It has either `onFlushed`, or `onResponse` and `onError`. */
export interface GatheredRequest<Owner> {
  readonly owner: Owner
  readonly request: WireRequest
  readonly sizeBytes: number
  readonly onFlushed: (() => void) | null
  readonly onResponse: ((payload: Buffer) => void) | null
  readonly onError: ((error: Error) => void) | null
}

interface Group<Owner> {
  readonly requests: GatheredRequest<Owner>[]
  /** null: only that of the first request. */
  topics: Set<string> | null
  sizeBytes: number
  maxBytes: number
}

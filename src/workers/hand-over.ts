import type { Worker } from 'node:cluster'

/**
 * The connections that node:cluster has handed to one worker and that the worker has not taken yet. A worker answers before it reads from a connection,
 * so of these nothing was read.
 *
 * node:cluster waits for that answer for good (`handoff` in Node's lib/internal/cluster/round_robin_handle.js). When the worker ends before it answers,
 * the primary would keep the connection open, and its client would wait for a reply that nobody writes.
 */
export class HandOver {
  readonly #process: Worker['process']
  /** By the number that node:cluster gives each of its messages. */
  readonly #untaken = new Set<number>()

  constructor({ process }: Worker) {
    this.#process = process
    const send = process.send.bind(process) as (...args: unknown[]) => boolean
    process.send = (message: ClusterMessage, ...rest: unknown[]) => {
      if (message.act === 'newconn') this.#untaken.add(message.seq!)
      return send(message, ...rest)
    }
    process.on('internalMessage', ({ ack }: ClusterMessage) => {
      if (ack !== undefined) this.#untaken.delete(ack)
    })
  }

  /**
   * To be called when the worker is gone and its channel was read to the end.
   * @param toOthers whether another worker listens, which gets the connections. Otherwise they are closed.
   */
  giveBack(toOthers: boolean): void {
    for (const ack of this.#untaken) {
      const answer: ClusterMessage = { cmd: 'NODE_CLUSTER', ack, accepted: !toOthers }
      this.#process.emit('internalMessage', answer)
    }
  }
}

/** What `sendHelper` in Node's lib/internal/cluster/utils.js sends, and what a worker answers. */
interface ClusterMessage {
  readonly cmd?: 'NODE_CLUSTER'
  readonly act?: string
  readonly seq?: number
  readonly ack?: number
  /** The primary closes its end of a connection that was accepted, and hands one that was not to the next worker. */
  readonly accepted?: boolean
}

import RequestQueue from 'kafkajs/src/network/requestQueue/index.js'

const schedule = RequestQueue.prototype.scheduleCheckPendingRequests

/**
 * kafkajs arms a timer of 1 ms after each response, also with nothing to wait for, which costs 3 to 4 % of a core while
 * idle and makes Node 22 and newer warn of a negative time. It is needed only while requests are held back (KIP-219).
 * Stops it for all connections that are made from now on.
 */
export function stopIdleTimers(): void {
  RequestQueue.prototype.scheduleCheckPendingRequests = function scheduleIfPending(): void {
    if (this.pending.length > 0) schedule.call(this)
  }
}

import RequestQueue from 'kafkajs/src/network/requestQueue/index.js'

const schedule = RequestQueue.prototype.scheduleCheckPendingRequests

/**
 * Stops a timer of kafkajs for all connections that are made from now on. kafkajs arms this timer of 1 ms after each response, even if no
 * request waits. That costs 3 to 4 % of a core while idle, and makes Node 22 and newer warn of a negative time. kafkajs needs the timer
 * only while a broker has it hold back requests (KIP-219).
 */
export function stopIdleTimers(): void {
  RequestQueue.prototype.scheduleCheckPendingRequests = function scheduleIfPending(): void {
    if (this.pending.length > 0) schedule.call(this)
  }
}

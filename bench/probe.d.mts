/** What the probe tells. */
export interface ProbeReading {
  /** How late the event loop was, whatever the cause. */
  readonly delayP99Ms: number
  readonly delayMaxMs: number
  /** The longest that work blocked the loop: time on a core within one late tick. */
  readonly ownMaxMs: number
  /** The part of it in the kernel, in steps of 10 ms. */
  readonly ownMaxKernelMs: number
  /** Pages that were touched for the first time meanwhile, or mapped anew. */
  readonly ownMaxPageFaults: number
  /** The same, of 99.9 % of the ticks: 0 where fewer than one in a thousand was late. */
  readonly ownP999Ms: number
  /** Longest pause of the garbage collector, waiting for a core included. */
  readonly gcMaxMs: number
  /** Pauses of the garbage collector ÷ the time that the thread was on a core. */
  readonly gcShare: number
  /** Share of the time in which the thread was ready to run and had no core, 0 to 1. */
  readonly waitShare: number
}

/**
 * Now, in epoch milliseconds, by whichever clock says less: the wall clock, or the wall clock of this process's beginning
 * plus the monotonic time since. What is over by this is over by both. So a step of the wall clock forward, while the
 * process lives, ends nothing early; and after a step back, nothing ends that the next process would still want.
 */
export function earliestNowMs(): number {
  return Math.min(Date.now(), beganAtMs + performance.now())
}

const beganAtMs = Date.now() - performance.now()

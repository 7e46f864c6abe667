import { isFull } from '../../support/forms.ts'

/** Rates and durations of one form. The short one has rates that a busy machine of two cores carries. */
export interface Form {
  /** Events a second of the paced load. */
  readonly ratePerSecond: number
  /** Load before a window is measured: compilers and connections warm up. */
  readonly warmUpMs: number
  /** What "before" is measured over. */
  readonly calmMs: number
  /** Load after everything is well again. */
  readonly afterMs: number
  /** `SHUTDOWN_TIMEOUT_MS` of the gateway that is told to go in the middle of the fault. */
  readonly shutdownTimeoutMs: number
  /** `request.timeout.ms`, where a fault is one that only a timeout ends. */
  readonly requestTimeoutMs: number
}

/** The form of this run. */
export const form: Form = isFull
  ? {
      ratePerSecond: 1_500,
      warmUpMs: 5_000,
      calmMs: 15_000,
      afterMs: 10_000,
      shutdownTimeoutMs: 5_000,
      requestTimeoutMs: 5_000,
    }
  : {
      ratePerSecond: 300,
      warmUpMs: 500,
      calmMs: 1_000,
      afterMs: 1_000,
      shutdownTimeoutMs: 2_000,
      requestTimeoutMs: 1_500,
    }

/** The limit of a test in which `faults` faults are lived through, gateways and brokers started and all read back. */
export function limitMs(faults = 1): number {
  return isFull ? 60_000 + faults * 180_000 : 60_000 + faults * 90_000
}

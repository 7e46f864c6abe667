import type { Tracer } from '@opentelemetry/api'
import type { Logger } from '../logger.ts'

/**
 * The SDK that the operator has loaded. No error of the SDK reaches a request: the first one is logged, and from then on there is no tracing
 * in this process. An SDK that has thrown may throw at each request, and what it has of a trace is not whole any more.
 */
export class Sdk {
  readonly tracer: Tracer
  readonly #logger: Logger
  #isOff = false

  constructor(tracer: Tracer, logger: Logger) {
    this.tracer = tracer
    this.#logger = logger
  }

  /** The SDK has thrown, and is not called any more. */
  get isOff(): boolean {
    return this.#isOff
  }

  /**
   * Makes calls to the SDK. All calls but those of {@link Tracing.flush} to the exporter are made here.
   * @returns null: the SDK has thrown, in this call or an earlier one.
   */
  safely<Result>(call: () => Result): Result | null {
    if (this.#isOff) return null
    try {
      return call()
    } catch (error) {
      this.#isOff = true
      tellOff(error, this.#logger)
      return null
    }
  }
}

/** Logs that there is no tracing from now on. */
export function tellOff(error: unknown, logger: Logger): void {
  logger.error(
    { err: error },
    'the OpenTelemetry SDK threw an error: this process writes no more spans until it is started again',
  )
}

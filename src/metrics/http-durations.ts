import { Histogram } from './histogram.ts'
import type { HistogramReading, HistogramSeries } from './histogram.ts'

/** Takes the duration of each request of one route. */
export interface HttpTimer {
  /** Counts one reply. `statusCode` is final, so 200 to 599. */
  observe(statusCode: number, durationMs: number): void
}

const statusClasses = ['2xx', '3xx', '4xx', '5xx'] as const

/** `chute_http_request_duration_seconds`: from the request's header to the reply's last byte, as the server sees it. */
export class HttpDurations {
  readonly #histogram = new Histogram({
    name: 'chute_http_request_duration_seconds',
    help: 'Time from the header of a request until its reply was written, by route and class of status.',
    type: 'histogram',
    buckets: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
  })
  readonly #timers = new Map<string, HttpTimer>()

  /**
   * The timer of a route; to be kept by the route, so that a request looks nothing up.
   * @param route the pattern, as `/v1/streams/:stream`, never a request's path: label sets are closed.
   */
  timer(method: string, route: string): HttpTimer {
    const key = `${method} ${route}`
    const known = this.#timers.get(key)
    if (known !== undefined) return known
    const byClass: HistogramSeries[] = statusClasses.map((status) =>
      this.#histogram.addSeries({ method, route, status }),
    )
    const timer: HttpTimer = {
      observe(statusCode, durationMs) {
        byClass[Math.floor(statusCode / 100) - 2]?.observe(durationMs / 1000)
      },
    }
    this.#timers.set(key, timer)
    return timer
  }

  read(): HistogramReading {
    return this.#histogram.read()
  }
}

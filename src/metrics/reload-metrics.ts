import type { MergeableFamily } from './family.ts'

/** See {@link ReloadResult}. The label `result` has these values. */
export const reloadResults = ['success', 'needs_restart', 'failure'] as const

/**
 * What came of changed files. `success`: all that they say is in force. `needs_restart`: all but what cannot change while the
 * gateway runs. `failure`: nothing of them is.
 */
export type ReloadResult = (typeof reloadResults)[number]

/** The reloads of the configuration since the start. A process that takes requests counts its own; with workers the primary does. */
export class Reloads {
  readonly #counts: Record<ReloadResult, number> = { success: 0, needs_restart: 0, failure: 0 }
  /** Of the configuration that is in force: `hashOfConfig` in config/reload.ts. */
  hash: number
  /** All that the files say is in force, as far as anybody looked. */
  isCurrent = true

  constructor(hash: number) {
    this.hash = hash
  }

  /** Counts one reload. Files that say what is in force already are none. */
  count(result: ReloadResult): void {
    this.#counts[result]++
    this.isCurrent = result === 'success'
  }

  /** The reloads as metrics. */
  collect(): MergeableFamily[] {
    return [
      {
        name: 'chute_config_reloads_total',
        help: 'Reloads of changed files. success: all that they say is in force. needs_restart: all but what the log names. failure: nothing of them is, and the log has the reasons.',
        type: 'counter',
        samples: reloadResults.map((result) => ({
          suffix: '',
          labels: { result },
          value: this.#counts[result],
        })),
      },
      {
        name: 'chute_config_last_reload_successful',
        help: '1 if all that the files of the configuration said when they were last read is in force, else 0.',
        type: 'gauge',
        merge: 'min',
        samples: [{ suffix: '', labels: {}, value: Number(this.isCurrent) }],
      },
      {
        name: 'chute_config_hash',
        help: 'A number that gateways with the same keys, origins, limits, streams and log level have in common. Its size says nothing.',
        type: 'gauge',
        merge: 'max',
        samples: [{ suffix: '', labels: {}, value: this.hash }],
      },
    ]
  }
}

import type { Logger } from 'pino'
import { type Certificates, warningsOfCertificates, withCertificates } from '../config/certificates.ts'
import type { Config } from '../config/config.ts'
import { readTextFile } from '../config/load-config.ts'
import type { ReadFile } from '../config/read-file.ts'
import { warningsOfDoor } from '../config/warnings.ts'
import { watchFiles, type FileWatch } from '../config/watch-files.ts'
import { reloadResults, type Reloads } from '../metrics/reload-metrics.ts'
import type { HangUps } from './process.ts'
import { BesideReader } from './read-beside.ts'
import { applyDifference, type Reading } from './reread-config.ts'

/** What takes a new configuration: a gateway, or the primary of several workers. */
export interface Reloadable {
  readonly reloads: Reloads
  renew(certificates: Certificates): void
  /** Puts a configuration in force, all of it or none. @throws Error that says why it could not. Then the old one is in force. */
  reload(config: Config): Promise<void>
}

/**
 * Reads all files of the configuration again when one of them changes, and at SIGHUP. What is new and good is put in force. A
 * configuration with a problem changes nothing, and each problem is logged as `chute check` tells it. The certificates of each side are
 * judged by themselves, so that a wrong line in another file lets no certificate run out.
 */
export class ConfigReloader {
  readonly #reader: BesideReader
  readonly #target: Reloadable
  readonly #logger: Logger
  readonly #watch: FileWatch
  #config: Config
  /** The configuration that the last reading proposed is in force. */
  #isTaken = false
  /** The files that the last reading asked for, with those of the configuration in force. */
  #files: readonly string[]
  #isReading = false
  /** What asked for a reading while another one was under way. */
  #next: 'SIGHUP' | 'change' | null = null
  #isClosed = false

  /** @param options.config was read from `env` and from `files`. It is in force. */
  constructor(options: {
    config: Config
    files: FilesRead
    env: NodeJS.ProcessEnv
    target: Reloadable
    logger: Logger
    hangUps: HangUps
  }) {
    const { config, files, env, target, logger, hangUps } = options
    this.#config = config
    this.#reader = new BesideReader(env)
    this.#target = target
    this.#logger = logger
    this.#files = files.paths
    this.#watch = watchFiles(this.#files, () => this.#read('change'))
    // They may have changed since they were read, which was before anybody watched.
    if (files.haveChanged) this.#read('change')
    if (this.#files.length > 0) hangUps.onHangUp(() => this.#read('SIGHUP'))
  }

  /** Reloads nothing from now on. */
  close(): void {
    this.#isClosed = true
    this.#watch.close()
    this.#reader.close()
  }

  #read(why: 'SIGHUP' | 'change'): void {
    if (this.#isClosed) {
      this.#logger.info({ signal: why }, 'nothing is reloaded while the gateway shuts down')
      return
    }
    if (this.#isReading) {
      this.#next = why
      return
    }
    this.#isReading = true
    void this.#reload(why).finally(() => {
      // Signals that come one after the other are one reading, with what the files say then.
      setTimeout(() => {
        this.#isReading = false
        const next = this.#next
        this.#next = null
        if (next !== null && !this.#isClosed) this.#read(next)
      }, restMs).unref()
    })
  }

  async #reload(why: 'SIGHUP' | 'change'): Promise<void> {
    const reading = await this.#readBeside()
    if (this.#isClosed) return
    const { reloads } = this.#target
    if (reading === null) return reloads.count('failure')
    const certificates = this.#takeCertificates(reading)
    const outcome = await this.#takeRest(reading)
    const result = [...reloadResults].toReversed().find((each) => each === certificates || each === outcome)
    if (result !== undefined) reloads.count(result)
    else if (!reloads.isCurrent) {
      reloads.isCurrent = true
      this.#logger.info({}, 'the files of the configuration say again what is in force')
    } else if (why === 'SIGHUP')
      this.#logger.info({ signal: why }, 'SIGHUP: the files of the configuration have nothing new')
    const { files } = reading
    this.#files = outcome === 'failure' ? [...new Set([...this.#files, ...files])] : files
    if (!this.#isClosed) this.#watch.follow(this.#files)
  }

  async #readBeside(): Promise<Reading | null> {
    const isTaken = this.#isTaken
    this.#isTaken = false
    try {
      return await this.#reader.read(this.#config, this.#files, isTaken)
    } catch (error) {
      if (!this.#isClosed) this.#logger.error({ problem: (error as Error).message }, cannotBeUsed)
      return null
    }
  }

  #takeCertificates({ certificates: reread }: Reading): 'success' | 'failure' | null {
    const { certificates, renewed, settings, problems, own: inUse } = reread
    for (const { path, problem, remedy } of problems)
      this.#logger.error(
        { setting: path, problem, remedy },
        'new certificates cannot be used, and the old ones go on',
      )
    if (renewed.length > 0) {
      this.#config = withCertificates(this.#config, certificates)
      this.#target.renew(certificates)
      // Of a renewed authority or key alone, the gateway's own certificate stays.
      const own = inUse
        .filter(({ variable }) => settings.includes(variable))
        .map(({ variable, subject, notAfterMs }) => ({
          setting: variable,
          subject,
          notAfter: new Date(notAfterMs).toISOString(),
        }))
      this.#logger.info({ renewed, settings, certificates: own }, 'certificates were renewed')
      for (const warning of warningsOfCertificates(inUse)) this.#logger.warn({}, warning)
    }
    return problems.length > 0 ? 'failure' : renewed.length > 0 ? 'success' : null
  }

  async #takeRest({ rest }: Reading): Promise<'success' | 'needs_restart' | 'failure' | null> {
    if ('problems' in rest) {
      for (const { path, problem, remedy } of rest.problems)
        this.#logger.error({ setting: path, problem, remedy }, cannotBeUsed)
      return 'failure'
    }
    const { changes, needsRestart, hash, difference } = rest
    if (difference !== null) {
      const config = applyDifference(this.#config, difference)
      try {
        await this.#target.reload(config)
      } catch (error) {
        this.#logger.error({ problem: (error as Error).message }, cannotBeUsed)
        return 'failure'
      }
      this.#config = config
      this.#isTaken = true
      this.#target.reloads.hash = hash
      this.#logger.level = config.logLevel
      for (const warning of warningsOfDoor(config.http).slice(0, mostLogged)) this.#logger.warn({}, warning)
    }
    const fields = { changes: changes.slice(0, mostLogged), changed: changes.length }
    if (needsRestart.length > 0)
      this.#logger.warn({ ...fields, needsRestart }, 'some of the new configuration needs a restart')
    else if (changes.length > 0) this.#logger.info(fields, 'the configuration was reloaded')
    return needsRestart.length > 0 ? 'needs_restart' : changes.length > 0 ? 'success' : null
  }
}

/** The files of a configuration, as they were read at the start. */
export class FilesRead {
  readonly #texts = new Map<string, string>()

  /** Reads a file, and remembers it. */
  readonly read: ReadFile = (path) => {
    const text = readTextFile(path)
    this.#texts.set(path, text)
    return text
  }

  get paths(): string[] {
    return [...this.#texts.keys()]
  }

  /** One of the files says something else now, or cannot be read. */
  get haveChanged(): boolean {
    return Array.from(this.#texts).some(([path, text]) => {
      try {
        return readTextFile(path) !== text
      } catch {
        return true
      }
    })
  }
}

const cannotBeUsed = 'the new configuration cannot be used, and the old one goes on'
/** The time between two readings, in milliseconds. */
const restMs = 200
/** Of thousands of keys, a line of the log names some. */
const mostLogged = 20

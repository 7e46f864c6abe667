import { isDeepStrictEqual } from 'node:util'
import type { Logger } from 'pino'
import {
  type Certificates,
  certificatesOf,
  ownCertificates,
  rereadCertificates,
  warningsOfCertificates,
  withCertificates,
} from '../config/certificates.ts'
import { type Config, ConfigError, pemVariables } from '../config/config.ts'
import { loadConfig, readTextFile } from '../config/load-config.ts'
import type { FlawOfSchema } from '../config/read-streams.ts'
import { hashOfConfig, planReload } from '../config/reload.ts'
import { watchFiles, type FileWatch } from '../config/watch-files.ts'
import { reloadResults, type Reloads } from '../metrics/reload-metrics.ts'
import { flawOfSchema } from './check-command.ts'
import type { HangUps } from './process.ts'

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
  readonly #env: NodeJS.ProcessEnv
  readonly #target: Reloadable
  readonly #logger: Logger
  readonly #watch: FileWatch
  #config: Config
  /** The files that the last reading asked for, with those of the configuration in force. */
  #files: ReadonlySet<string> = new Set()
  /** The files that the reading under way has asked for. All of them are asked for before its first pause. */
  #asked: ReadonlySet<string> = new Set()
  #isReading = false
  /** What asked for a reading while another one was under way. */
  #next: 'SIGHUP' | 'change' | null = null
  #isClosed = false

  /** @param options.config was read from `env`. It is in force. */
  constructor(options: {
    config: Config
    env: NodeJS.ProcessEnv
    target: Reloadable
    logger: Logger
    hangUps: HangUps
  }) {
    this.#config = options.config
    this.#env = options.env
    this.#target = options.target
    this.#logger = options.logger
    this.#watch = watchFiles([], () => this.#read('change'))
    // They may have changed since they were read, which was before anybody watched.
    this.#read('change')
    if (this.#asked.size > 0) options.hangUps.onHangUp(() => this.#read('SIGHUP'))
  }

  /** Reloads nothing from now on. */
  close(): void {
    this.#isClosed = true
    this.#watch.close()
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
      this.#isReading = false
      const next = this.#next
      this.#next = null
      if (next !== null && !this.#isClosed) this.#read(next)
    })
  }

  async #reload(why: 'SIGHUP' | 'change'): Promise<void> {
    const asked = new Set<string>()
    this.#asked = asked
    const readFile = (path: string): string => {
      asked.add(path)
      return readTextFile(path)
    }
    const certificates = this.#renewCertificates(readFile)
    const outcome = await this.#reloadRest(readFile)
    const result = [...reloadResults].toReversed().find((each) => each === certificates || each === outcome)
    const { reloads } = this.#target
    if (result !== undefined) reloads.count(result)
    else if (!reloads.isCurrent) {
      reloads.isCurrent = true
      this.#logger.info({}, 'the files of the configuration say again what is in force')
    } else if (why === 'SIGHUP')
      this.#logger.info({ signal: why }, 'SIGHUP: the files of the configuration have nothing new')
    this.#files = outcome === 'failure' ? new Set([...this.#files, ...asked]) : asked
    if (!this.#isClosed) this.#watch.follow([...this.#files])
  }

  #renewCertificates(readFile: (path: string) => string): 'success' | 'failure' | null {
    const { pemFiles } = this.#config
    const { certificates, renewed, problems } = rereadCertificates(
      certificatesOf(this.#config),
      pemFiles,
      readFile,
    )
    for (const { path, problem, remedy } of problems)
      this.#logger.error(
        { setting: path, problem, remedy },
        'new certificates cannot be used, and the old ones go on',
      )
    if (renewed.length > 0) {
      this.#config = withCertificates(this.#config, certificates)
      this.#target.renew(certificates)
      const inUse = ownCertificates(certificates, pemFiles)
      const own = inUse.map(({ variable, subject, notAfterMs }) => ({
        setting: variable,
        subject,
        notAfter: new Date(notAfterMs).toISOString(),
      }))
      this.#logger.info({ renewed, certificates: own }, 'certificates were renewed')
      for (const warning of warningsOfCertificates(inUse)) this.#logger.warn({}, warning)
    }
    return problems.length > 0 ? 'failure' : renewed.length > 0 ? 'success' : null
  }

  async #reloadRest(
    readFile: (path: string) => string,
  ): Promise<'success' | 'needs_restart' | 'failure' | null> {
    try {
      const next = loadConfig(this.#envWithCertificates(), readFile, this.#flawOfSchema)
      const { config, changes, needsRestart } = planReload(this.#config, next)
      if (changes.length > 0) {
        await this.#target.reload(config)
        this.#config = config
        this.#target.reloads.hash = hashOfConfig(config)
        this.#logger.level = config.logLevel
      }
      const fields = { changes: changes.slice(0, mostLogged), changed: changes.length }
      if (needsRestart.length > 0)
        this.#logger.warn({ ...fields, needsRestart }, 'some of the new configuration needs a restart')
      else if (changes.length > 0) this.#logger.info(fields, 'the configuration was reloaded')
      return needsRestart.length > 0 ? 'needs_restart' : changes.length > 0 ? 'success' : null
    } catch (error) {
      const problems =
        error instanceof ConfigError
          ? error.problems.map(({ path, problem, remedy }) => ({ setting: path, problem, remedy }))
          : [{ problem: (error as Error).message }]
      for (const each of problems)
        this.#logger.error(each, 'the new configuration cannot be used, and the old one goes on')
      return 'failure'
    }
  }

  /** A schema that is in force was compiled already. */
  readonly #flawOfSchema: FlawOfSchema = (schema) =>
    this.#config.streams.some((stream) => isDeepStrictEqual(stream.schema, schema))
      ? null
      : flawOfSchema(schema)

  /** The environment with the certificates that are in force, whatever their files hold. */
  #envWithCertificates(): NodeJS.ProcessEnv {
    const { tls, kafkaSsl } = certificatesOf(this.#config)
    const texts: Record<(typeof pemVariables)[number], string | null | undefined> = {
      TLS_CERT: tls?.cert,
      TLS_KEY: tls?.key,
      TLS_CLIENT_CA: tls?.clientCa,
      KAFKA_SSL_CA: kafkaSsl?.ca,
      KAFKA_SSL_CERT: kafkaSsl?.cert,
      KAFKA_SSL_KEY: kafkaSsl?.key,
    }
    const env = { ...this.#env }
    for (const name of pemVariables) {
      delete env[`${name}_FILE`]
      env[name] = texts[name] ?? ''
    }
    return env
  }
}

/** Of thousands of keys, a line of the log names some. */
const mostLogged = 20

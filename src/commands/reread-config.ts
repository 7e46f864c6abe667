import { isDeepStrictEqual } from 'node:util'
import {
  certificatesOf,
  type OwnCertificate,
  ownCertificates,
  rereadCertificates,
  type Reread,
  withCertificates,
} from '../config/certificates.ts'
import {
  type Config,
  ConfigError,
  type ConfigProblem,
  type KeyConfig,
  pemVariables,
  type StreamConfig,
} from '../config/config.ts'
import { loadConfig, readTextFile } from '../config/load-config.ts'
import type { ReadFile } from '../config/read-file.ts'
import type { FlawOfSchema } from '../config/read-streams.ts'
import { hashOfConfig, planReload } from '../config/reload.ts'
import { flawOfSchema } from './check-command.ts'

/** What the files of the configuration say, compared with what is in force. Plain data. */
export interface Reading {
  /** The files that were asked for. */
  readonly files: readonly string[]
  /** The certificates are judged by themselves. Those that are good are in force, as far as the next reading knows. */
  readonly certificates: Reread & { readonly own: readonly OwnCertificate[] }
  /** What changes and what is wrong with the rest. */
  readonly rest:
    | NewConfig
    | { readonly problems: readonly (Omit<ConfigProblem, 'path'> & { path?: string })[] }
}

/** A configuration that can be put in force. */
export interface NewConfig {
  /** Empty: nothing changes. */
  readonly changes: readonly string[]
  readonly needsRestart: readonly string[]
  readonly hash: number
  /** Null: nothing changes. */
  readonly difference: ConfigDifference | null
}

/** A configuration without the streams and keys that stay as they are. With thousands of keys, few are new. */
export interface ConfigDifference {
  readonly config: Config
  /** In order. A name stands for what is in force. */
  readonly streams: readonly (StreamConfig | string)[]
  readonly keys: readonly (KeyConfig | string)[]
}

/** The configuration that {@link ConfigDifference} stands for. What stays is the very object that `current` has. */
export function applyDifference(current: Config, { config, streams, keys }: ConfigDifference): Config {
  return {
    ...config,
    http: { ...config.http, keys: withOld(current.http.keys, keys) },
    streams: withOld(current.streams, streams),
  }
}

function differenceOf(current: Config, next: Config): ConfigDifference {
  return {
    config: { ...next, http: { ...next.http, keys: [] }, streams: [] },
    streams: withoutOld(current.streams, next.streams),
    keys: withoutOld(current.http.keys, next.http.keys),
  }
}

function withOld<T extends { readonly name: string }>(old: readonly T[], list: readonly (T | string)[]): T[] {
  const byName = new Map(old.map((each) => [each.name, each]))
  return list.map((each) => (typeof each === 'string' ? byName.get(each)! : each))
}

function withoutOld<T extends { readonly name: string }>(
  old: readonly T[],
  list: readonly T[],
): (T | string)[] {
  const stays = new Set(old)
  return list.map((each) => (stays.has(each) ? each.name : each))
}

/**
 * Reads all files of the configuration again, and compares them with what is in force. Takes time with the number of keys and
 * schemas, so that `reread-thread.ts` runs it beside the event loop.
 */
export class ConfigRereader {
  readonly #env: NodeJS.ProcessEnv
  #config: Config
  /** What the last reading proposed. */
  #proposed: Config | null = null

  /** @param config was read from `env`. It is in force. */
  constructor(config: Config, env: NodeJS.ProcessEnv) {
    this.#config = config
    this.#env = env
  }

  /** @param isTaken whether the configuration of the last reading is in force now. */
  read(isTaken: boolean): Reading {
    if (isTaken && this.#proposed !== null) this.#config = this.#proposed
    this.#proposed = null
    const files = new Set<string>()
    const readFile: ReadFile = (path) => {
      files.add(path)
      return readTextFile(path)
    }
    const { pemFiles } = this.#config
    const reread = rereadCertificates(certificatesOf(this.#config), pemFiles, readFile)
    this.#config = withCertificates(this.#config, reread.certificates)
    const certificates = { ...reread, own: ownCertificates(reread.certificates, pemFiles) }
    const rest = this.#readRest(readFile)
    return { files: [...files], certificates, rest }
  }

  #readRest(readFile: ReadFile): Reading['rest'] {
    try {
      const next = loadConfig(this.#envWithCertificates(), readFile, this.#flawOfSchema)
      const { config, changes, needsRestart } = planReload(this.#config, next)
      this.#proposed = config
      const difference = changes.length === 0 ? null : differenceOf(this.#config, config)
      return { changes, needsRestart, hash: hashOfConfig(config), difference }
    } catch (error) {
      if (error instanceof ConfigError) return { problems: error.problems }
      return { problems: [{ problem: (error as Error).message, remedy: '' }] }
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

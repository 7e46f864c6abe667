import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

/** The version of Apache Kafka that is run locally, unless another one is asked for. */
export const kafkaVersion = '4.1.0'

/** Kafka on this machine's disk. */
export interface KafkaJars {
  readonly classpath: string
  /** A folder of the cache for files that belong to these jars and this Java (`prepared-kafka.ts`). It may not exist yet. */
  readonly preparedFolder: string
}

/**
 * Kafka's own jars. The first call fetches them with Maven from its central repository, and keeps them in a cache folder (`CHUTE_CACHE_DIR`,
 * or the user's cache folder). A download that is interrupted leaves nothing behind.
 * @param version the version of Apache Kafka: 3.7 or newer.
 * @throws LocalKafkaError if Java or Maven is missing, or if the download fails.
 */
export async function kafkaJars(
  version: string,
  env: NodeJS.ProcessEnv,
  onProgress: (text: string) => void,
): Promise<KafkaJars> {
  const javaVersion = await requireJava()
  const cache = env['CHUTE_CACHE_DIR'] ?? join(env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'chute')
  // The folder's name depends on the list of jars, so that the folder of an older Chute is not used.
  const pom = pomXml(version)
  const contents = createHash('sha256').update(pom).digest('hex').slice(0, 8)
  const jars = join(cache, `kafka-${version}-${contents}`)
  if (!existsSync(jars)) {
    onProgress(`fetching Apache Kafka ${version} (about 60 MB, once)`)
    await download(cache, pom, jars)
  }
  return { classpath: join(jars, '*'), preparedFolder: `${jars}-java-${javaVersion}` }
}

async function download(cache: string, pomXml: string, jars: string): Promise<void> {
  await mkdir(cache, { recursive: true })
  const folder = await mkdtemp(join(cache, 'download-'))
  try {
    const pom = join(folder, 'pom.xml')
    await writeFile(pom, pomXml)
    const goal = 'dependency:copy-dependencies'
    const args = [
      '-B',
      '-q',
      '-f',
      pom,
      goal,
      '-DincludeScope=runtime',
      `-DoutputDirectory=${join(folder, 'jars')}`,
    ]
    await run('mvn', args)
    await rename(join(folder, 'jars'), jars).catch((error: unknown) => {
      // Another process has just downloaded the jars.
      if (!existsSync(jars)) throw error
    })
  } catch (error) {
    const { code, stderr, stdout } = error as { code?: string; stderr?: string; stdout?: string }
    if (code === 'ENOENT')
      throw new LocalKafkaError('no_maven', 'Maven (mvn) was not found', { cause: error })
    const reason =
      `${stdout ?? ''}${stderr ?? ''}`.split('\n').find((line) => line.includes('ERROR')) ?? String(error)
    throw new LocalKafkaError('no_download', `Kafka could not be downloaded: ${reason}`, { cause: error })
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** @returns the version of Java, such as `17.0.15`. */
async function requireJava(): Promise<string> {
  let output: string
  try {
    output = (await run('java', ['-version'])).stderr
  } catch (error) {
    throw new LocalKafkaError('no_java', 'Java was not found', { cause: error })
  }
  const version = /version "([\w.+-]+)"/.exec(output)?.[1] ?? '0'
  const major = Number.parseInt(version)
  if (major < 17) throw new LocalKafkaError('no_java', `Java 17 or newer is needed, and this is ${major}`)
  return version
}

const run = promisify(execFile)

const pomXml = (version: string): string => `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>chute</groupId>
  <artifactId>local-kafka</artifactId>
  <version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>${version}</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>${version}</version></dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>2.24.3</version></dependency>
  </dependencies>
</project>
`

/** Why no local Kafka can be started. */
export type LocalKafkaProblem = 'no_java' | 'no_maven' | 'no_download' | 'port_taken' | 'not_ready'

/** The ways to get a broker. An error of one way names the others. */
export const waysToGetABroker = `Three ways to get a broker:
  - Java 17 or newer and Maven:  npm run kafka
  - Docker:                      docker run --rm -p 9092:9092 apache/kafka:4.1.0
  - a cluster that you have:     KAFKA_BROKERS=host:9092 npm start`

/** No local Kafka can be started. The message says what to do about it. */
export class LocalKafkaError extends Error {
  override readonly name = 'LocalKafkaError'
  readonly problem: LocalKafkaProblem

  constructor(problem: LocalKafkaProblem, message: string, options?: { cause: unknown }) {
    super(`${message}\n${remedies[problem]}`, options)
    this.problem = problem
  }
}

const remedies: Record<LocalKafkaProblem, string> = {
  no_java: waysToGetABroker,
  no_maven: waysToGetABroker,
  no_download: `Is Maven Central, or your mirror of it (~/.m2/settings.xml), within reach?\n${waysToGetABroker}`,
  port_taken: 'Stop what listens there, or set KAFKA_PORT to another port.',
  not_ready: 'Is there enough memory (512 MB a node)? The log above says what Kafka stumbled on.',
}

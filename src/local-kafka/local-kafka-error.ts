/** Why a local Kafka cannot be had. */
export type LocalKafkaProblem = 'no_java' | 'no_maven' | 'no_download' | 'port_taken' | 'not_ready'

/** The ways to get a broker, for whoever is told that one of them does not work. */
export const waysToGetABroker = `Three ways to get a broker:
  - Java 17 or newer and Maven:  npm run kafka
  - Docker:                      docker run --rm -p 9092:9092 apache/kafka:4.1.0
  - a cluster that you have:     KAFKA_BROKERS=host:9092 npm start`

/** A local Kafka cannot be had; the message says what to do about it. */
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

import type { KafkaConfig } from '../../config/config.ts'
import { silentLogger } from '../../logger.ts'
import { KafkajsTransport } from '../network/kafkajs-transport.ts'
import { responseTo } from '../network/transport.ts'
import { kafkaErrorName, kafkaErrors } from '../protocol/kafka-error.ts'
import { decodeEpochEnd, encodeEpochEnd } from '../protocol/requests.ts'

/**
 * Asks the leader of a partition where the records of an earlier leader end in its log (KIP-320). A position behind that offset belongs to a log
 * that is gone: the leader was elected without the records before the position. kafkajs cannot ask this. It is asked seldom, so over a connection
 * of its own.
 * @param of `leaderEpoch`: that of the last record before the position.
 * @returns null: the leader does not know it, or does not serve the request.
 * @throws Error if the leader cannot be asked.
 */
export async function endOfEpoch(
  kafka: KafkaConfig,
  leader: { readonly host: string; readonly port: number },
  of: { readonly topic: string; readonly partition: number; readonly leaderEpoch: number },
): Promise<number | null> {
  const transport = new KafkajsTransport(kafka, silentLogger)
  const connection = await transport.connect(leader.host, leader.port, kafka.connectionTimeoutMs)
  try {
    if (connection.lacks(['EpochEnd']) !== null) return null
    const { errorCode, endOffset } = decodeEpochEnd(await responseTo(connection, encodeEpochEnd(of)))
    if (errorCode !== kafkaErrors.none) throw new Error(kafkaErrorName(errorCode))
    return endOffset < 0n ? null : Number(endOffset)
  } finally {
    connection.destroy(new Error('it was asked'))
  }
}

import { setTimeout as sleep } from 'node:timers/promises'
import { untilSettled } from '../../dev/demo-summary.ts'
import { alignTable } from '../../src/reports/text-table.ts'
import { readTopic } from '../../test/support/independent-reader.ts'
import { flaggedOf } from '../../test/support/producer-stats.ts'
import { runExample, say, type Stack } from '../stack.ts'
import { gameStreams, play, type Accepted, type GameStream } from './players.ts'

/**
 * Real-time gaming: positions and heartbeats at most once, kills and chat at least once. With a Kafka of its own it kills
 * the broker in the middle (`--calm`: it does not), which shows what the two deliveries are for.
 *
 * Exits with 1 if a kill or a chat message is missing, if anything of an at-most-once stream is there twice, or if more of
 * it is missing than the gateway says.
 */
process.exitCode = await runExample(new URL('chute.yaml', import.meta.url), async (stack, flags) => {
  const seconds = flags.calm ? 5 : 12
  say(
    `40 players for ${seconds} s${flags.calm ? '' : '; the broker is killed after 4 s and is back 3 s later'}`,
  )
  const [accepted] = await Promise.all([play(stack.url, 40, seconds), flags.calm ? null : outage(stack)])
  return await judge(stack, accepted)
})

async function outage({ kafka }: Stack): Promise<void> {
  const broker = kafka?.nodes[0]
  if (broker === undefined) throw new Error('only a Kafka of its own can be killed: add --calm')
  await sleep(4_000)
  await broker.kill('SIGKILL')
  say('the broker was killed')
  await sleep(3_000)
  broker.start()
  await broker.waitUntilReady()
  say('the broker is back')
}

async function judge({ url, broker }: Stack, accepted: Accepted): Promise<boolean> {
  const stats = await untilSettled(url)
  const rows: string[][] = []
  let asPromised = true
  for (const stream of gameStreams) {
    const account = stats.find((each) => each.stream === stream)!
    const { topic, delivery } = account
    const ids = (await readTopic(broker, topic)).map(({ value }) => idOf(value))
    const landed = new Set(ids)
    const lost = [...accepted[stream]].filter((id) => !landed.has(id)).length
    const toldLost = flaggedOf(account)
    const twice = ids.length - landed.size
    asPromised &&= isAsPromised(stream, { lost, toldLost, twice })
    rows.push([stream, delivery, ...[accepted[stream].size, landed.size, lost, toldLost, twice].map(String)])
  }
  say('')
  for (const line of alignTable([
    ['stream', 'delivery', 'accepted', 'landed', 'lost', 'told as lost', 'twice'],
    ...rows,
  ]))
    say(line)
  say(
    asPromised
      ? '\nEach stream kept its promise: kills and chat are all there; of the rest nothing is there twice, and no more is missing than the gateway says.'
      : '\nA stream did NOT keep its promise.',
  )
  return asPromised
}

function isAsPromised(stream: GameStream, seen: { lost: number; toldLost: number; twice: number }): boolean {
  return stream === 'kills' || stream === 'chat'
    ? seen.lost === 0
    : seen.twice === 0 && seen.lost <= seen.toldLost
}

function idOf(value: Buffer): string {
  return (JSON.parse(value.toString()) as { id: string }).id
}

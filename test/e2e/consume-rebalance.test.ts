import { randomUUID } from 'node:crypto'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import type { ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { expect, inject, onTestFinished, test } from 'vitest'
import { startConsumer, type ReaderProcess } from '../support/consume-process.ts'
import { byForm, isFull, isLong } from '../support/forms.ts'
import { seed } from '../support/seed.ts'
import { seededRandom } from '../support/fault-run.ts'
import { createTopic } from '../support/independent-reader.ts'
import { startNdjsonEndpoint } from '../support/ndjson-endpoint.ts'
import { idsIn, idsOf, tally, until, writeNumbered } from '../support/numbered-records.ts'

const partitions = 6
const maxPollRecords = 100

/** A group of at-most-once consumers, each of which writes what it processes to a file of its own. */
class Group {
  readonly broker = inject('kafkaBroker')
  readonly topic = `rebalance-${randomUUID()}`
  readonly #group = `group-${randomUUID()}`
  readonly #folder = mkdtempSync(join(tmpdir(), 'chute-rebalance-'))
  readonly members: ReaderProcess[] = []
  written = 0
  #started = 0

  constructor() {
    onTestFinished(() => {
      for (const member of this.members) member.signal('SIGKILL')
      rmSync(this.#folder, { recursive: true, force: true })
    })
  }

  async write(count: number): Promise<void> {
    const from = this.written
    this.written += count
    await writeNumbered(this.broker, this.topic, { count, from, partitions })
  }

  /** Starts a member and waits until it has joined. */
  async join(): Promise<ReaderProcess> {
    const file = join(this.#folder, `${this.#started++}.ndjson`)
    const { broker, topic } = this
    const member = startConsumer({ broker, topic, group: this.#group }, [
      `--set=max.poll.records=${maxPollRecords}`,
      `--exec=cat > ${file}`,
    ])
    this.members.push(member)
    await member.logged('joined the group')
    return member
  }

  /** SIGTERM: the member ends what it has polled, and leaves. */
  async leave(member: ReaderProcess): Promise<void> {
    this.members.splice(this.members.indexOf(member), 1)
    member.signal('SIGTERM')
    expect(await member.ended()).toBe(0)
    expect(member.log.at(-1)).toMatchObject({ account: { lost: 0, pending: 0, repeated: 0 } })
  }

  /** kill -9: the group learns of it when the session has timed out. */
  async kill(member: ReaderProcess): Promise<void> {
    this.members.splice(this.members.indexOf(member), 1)
    member.signal('SIGKILL')
    await member.ended()
  }

  get processed(): number[] {
    return readdirSync(this.#folder).flatMap((file) => idsIn(join(this.#folder, file)))
  }

  /** Waits until the records that are written from now on have all come through: then the group has caught up. */
  async catchUp(): Promise<void> {
    const from = this.written
    await this.write(partitions * 20)
    const wanted = Array.from({ length: partitions * 20 }, (_, index) => from + index)
    await until(() => {
      const there = new Set(this.processed)
      return wanted.every((id) => there.has(id))
    })
  }
}

/** Writes all the time while `work` goes on. */
async function whileWriting(group: Group, work: () => Promise<void>): Promise<void> {
  const end = new AbortController()
  const writing = (async () => {
    while (!end.signal.aborted) {
      await group.write(partitions * 50)
      await pause(isFull ? 20 : 100)
    }
  })()
  try {
    await work()
  } finally {
    end.abort()
    await writing
  }
}

test.runIf(isLong)(
  'members that join and leave lose nothing and repeat nothing',
  { timeout: 120_000 },
  async () => {
    const group = new Group()
    await createTopic(group.broker, group.topic, { partitions })
    const first = await group.join()
    await whileWriting(group, async () => {
      const second = await group.join()
      const third = await group.join()
      await group.leave(first)
      await group.join()
      await group.leave(third)
      await group.leave(second)
    })
    await group.catchUp()
    expect(group.written).toBeGreaterThan(1_000)
    expect(tally(group.processed, group.written)).toEqual({ repeated: 0, lost: 0 })
  },
)

const kills = byForm({ short: 1, ci: 3, full: 30 })
const rebalances = byForm({ short: 1, ci: 2, full: 10 })

test(
  `${kills} members that are killed and ${rebalances} that come and go repeat nothing, and lose at most what was polled`,
  { timeout: isFull ? 1_200_000 : 180_000 },
  async () => {
    const group = new Group()
    await createTopic(group.broker, group.topic, { partitions })
    const random = seededRandom(seed)
    const anyMember = (): ReaderProcess => group.members[Math.floor(random() * group.members.length)]!
    await group.join()
    await group.join()
    await whileWriting(group, async () => {
      const faults = [...Array<'kill'>(kills).fill('kill'), ...Array<'leave'>(rebalances).fill('leave')]
      for (const fault of faults.toSorted(() => random() - 0.5)) {
        await group.join()
        await pause(random() * 500)
        if (fault === 'kill') await group.kill(anyMember())
        else await group.leave(anyMember())
      }
    })
    await group.catchUp()
    const { repeated, lost } = tally(group.processed, group.written)
    process.stderr.write(
      `${kills} kills, ${rebalances} rebalances: ${group.written} written, ${lost} lost, ${repeated} repeated\n`,
    )
    expect(repeated).toBe(0)
    expect(lost).toBeLessThanOrEqual(kills * maxPollRecords)
    for (const member of group.members.slice()) await group.leave(member)
  },
)

test.runIf(isLong)(
  'a member that hangs in the middle of a poll, and wakes when others have its partitions, repeats nothing',
  { timeout: 120_000 },
  async () => {
    const group = new Group()
    await createTopic(group.broker, group.topic, { partitions: 1 })
    const held: ServerResponse[] = []
    const { url, lines } = await startNdjsonEndpoint((_, response) => void held.push(response))
    const answerAll = (): void => {
      for (const response of held.splice(0)) response.end()
    }
    await writeNumbered(group.broker, group.topic, { count: 400 })
    const args = ['--set', 'max.poll.records=50', '--http', url, '--http-timeout-ms', '60000']
    const target = { broker: group.broker, topic: group.topic, group: randomUUID() }
    const sleeper = startConsumer(target, args)
    group.members.push(sleeper)
    await until(() => held.length === 1)
    sleeper.signal('SIGSTOP')
    const other = startConsumer(target, args)
    group.members.push(other)
    // It gets the partition once the sleeper's session is over, and goes on behind the sleeper's commit.
    await until(() => {
      if (held.length > 1) held.pop()!.end()
      return lines().length === 400
    })
    sleeper.signal('SIGCONT')
    answerAll()
    await sleeper.logged('joined the group', 2)
    await writeNumbered(group.broker, group.topic, { count: 50, from: 400 })
    await until(() => {
      answerAll()
      return idsOf(lines()).includes(449)
    })
    expect(tally(idsOf(lines()), 450)).toEqual({ repeated: 0, lost: 0 })
  },
)

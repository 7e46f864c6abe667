import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, inject, onTestFinished, test } from 'vitest'
import { startKafka } from '../../src/local-kafka/local-kafka.ts'
import { startConsumer, type ConsumeTarget, type ReaderProcess } from '../support/consume-process.ts'
import { isLong } from '../support/forms.ts'
import { createTopic } from '../support/independent-reader.ts'
import { idsIn, tally, until, writeNumbered } from '../support/numbered-records.ts'

/** A topic of one partition, a group, and a file where records are processed by being written down. */
async function setUp(): Promise<{ target: ConsumeTarget; file: string }> {
  const broker = inject('kafkaBroker')
  const folder = mkdtempSync(join(tmpdir(), 'chute-consume-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const topic = `failures-${randomUUID()}`
  await createTopic(broker, topic, { partitions: 1 })
  return { target: { broker, topic, group: `group-${randomUUID()}` }, file: join(folder, 'processed.ndjson') }
}

function start(target: ConsumeTarget, ...args: string[]): ReaderProcess {
  const consumer = startConsumer(target, ['--set', 'max.poll.records=50', ...args])
  onTestFinished(() => consumer.signal('SIGKILL'))
  return consumer
}

/**
 * Writes 200 records, lets a consumer run that its own command kills (kill -9, so that it has no say), then one that lives,
 * until that has read to the end.
 */
async function crashAndGoOn(options: {
  delivery: string
  /** The command that processes and kills; `FILE` is the file. */
  crash: string
  /** The command of the consumer that lives. */
  live?: string
  written?: number
  writtenAfter?: number
  padding?: number
}): Promise<{ before: number[]; all: number[]; total: number }> {
  const { target, file } = await setUp()
  const { delivery, written = 200, writtenAfter = 0, padding = 0 } = options
  const total = written + writtenAfter
  const command = (text: string): string[] => [
    '--delivery',
    delivery,
    '--exec',
    text.replaceAll('FILE', file),
  ]
  await writeNumbered(target.broker, target.topic, { count: written, padding })
  const crashing = start(target, ...command(options.crash))
  expect(await crashing.ended()).toBeNull()
  const before = idsIn(file)
  if (writtenAfter > 0)
    await writeNumbered(target.broker, target.topic, { count: writtenAfter, from: written })
  const living = start(target, ...command(options.live ?? 'cat >> FILE'))
  await until(() => idsIn(file).includes(total - 1))
  living.signal('SIGTERM')
  expect(await living.ended()).toBe(0)
  return { before, all: idsIn(file), total }
}

// The command is a shell's; its parent is the consumer.
const kill = 'kill -9 $PPID'

/** 50 records of this size do not fit between two processes (some 200 KiB): the second poll waits until most of the first was read. */
const padding = 16_384

describe('at most once, as the table of consumer failures says: a crash', () => {
  test.runIf(isLong)(
    'after the commit and before processing loses all polled records, and repeats none',
    async () => {
      const { before, all, total } = await crashAndGoOn({
        delivery: 'at-most-once',
        crash: `read -r line; ${kill}`,
        padding,
      })
      expect(before).toEqual([])
      expect(tally(all, total)).toEqual({ repeated: 0, lost: 50 })
      expect(all[0]).toBe(50)
    },
  )

  test('during processing loses the rest of the polled records, and repeats none', async () => {
    const { before, all, total } = await crashAndGoOn({
      delivery: 'at-most-once',
      crash: `head -n 7 >> FILE; ${kill}`,
      padding,
    })
    expect(before).toEqual([0, 1, 2, 3, 4, 5, 6])
    expect(tally(all, total)).toEqual({ repeated: 0, lost: 43 })
    expect(all[7]).toBe(50)
  })

  test.runIf(isLong)('after processing loses nothing, and repeats none', async () => {
    const { before, all, total } = await crashAndGoOn({
      delivery: 'at-most-once',
      crash: `head -n 50 >> FILE; ${kill}`,
      written: 50,
      writtenAfter: 150,
    })
    expect(before).toHaveLength(50)
    expect(tally(all, total)).toEqual({ repeated: 0, lost: 0 })
  })
})

/** Processes a line by writing it down, then answers. */
const acknowledge = 'while read -r line; do printf "%s\\n" "$line" >> FILE; echo ok; done'

test('at least once, a crash during processing loses nothing, and repeats what was not committed', async () => {
  const { before, all, total } = await crashAndGoOn({
    delivery: 'at-least-once',
    crash: `for i in 1 2 3 4 5 6 7; do read -r line; printf "%s\\n" "$line" >> FILE; echo ok; done; ${kill}`,
    live: acknowledge,
  })
  expect(before).toHaveLength(7)
  expect(tally(all, total)).toEqual({ repeated: 7, lost: 0 })
})

describe.runIf(isLong)('auto-commit promises nothing: a crash', () => {
  test('before the clock commits repeats what was processed', async () => {
    const { before, all, total } = await crashAndGoOn({
      delivery: 'auto-commit',
      crash: `head -n 50 >> FILE; ${kill}`,
      written: 50,
      writtenAfter: 10,
    })
    expect(before).toHaveLength(50)
    expect(tally(all, total)).toEqual({ repeated: 50, lost: 0 })
  })

  test('after the clock has committed loses what was not processed', async () => {
    const { before, all, total } = await crashAndGoOn({
      delivery: 'auto-commit',
      // Long enough for the clock, which ticks every 100 ms, on any machine.
      crash: `head -n 7 >> FILE; sleep 3; ${kill}`,
      padding,
    })
    expect(before).toHaveLength(7)
    expect(tally(all, total)).toEqual({ repeated: 0, lost: 43 })
  })
})

test('a consumer ends in time, with its account, though Kafka stands still', async () => {
  const kafka = await startKafka()
  onTestFinished(async () => await kafka.stop())
  const target = { broker: kafka.brokers[0]!, topic: 'still', group: 'of-one' }
  await createTopic(target.broker, target.topic, { partitions: 1 })
  await writeNumbered(target.broker, target.topic, { count: 10 })
  const consumer = startConsumer(target, [], { SHUTDOWN_TIMEOUT_MS: '500' })
  onTestFinished(() => consumer.signal('SIGKILL'))
  await consumer.wrote(10)
  await kafka.nodes[0]!.kill('SIGSTOP')
  const startedMs = performance.now()
  consumer.signal('SIGTERM')
  expect(await consumer.ended()).toBe(1)
  expect(performance.now() - startedMs).toBeLessThan(8_000)
  expect(consumer.log.at(-1)).toMatchObject({ account: { consumed: 10, lost: 0 } })
})

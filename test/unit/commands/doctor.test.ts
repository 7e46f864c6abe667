import fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import type { Config, StreamConfig } from '../../../src/config/config.ts'
import { judgeClock, judgeTopic } from '../../../src/commands/doctor-kafka.ts'
import {
  judgeDescriptors,
  judgeMemory,
  judgeRoom,
  lookAtMachine,
  sizeOfTree,
} from '../../../src/commands/doctor-machine.ts'
import type { TopicFacts } from '../../../src/kafka/network/cluster-facts.ts'
import { testConfig } from '../../support/gateway.ts'
import { streamConfig } from '../../support/producer-fixture.ts'

function configOf(...streams: StreamConfig[]): Config {
  return testConfig({ brokers: ['a:9092', 'b:9092', 'c:9092'], streams })
}

const critical = { ...streamConfig('t', 'at-least-once'), key: '/user' } as const
const realtime = { ...streamConfig('t', 'at-most-once'), key: '/user' } as const

function facts(more: Partial<TopicFacts> = {}, settings: Record<string, string> = {}): TopicFacts {
  const usual = {
    'min.insync.replicas': '2',
    'max.message.bytes': '1048588',
    'cleanup.policy': 'delete',
    'retention.ms': '604800000',
    'message.timestamp.type': 'CreateTime',
    'message.timestamp.before.max.ms': '9223372036854775807',
    'message.timestamp.after.max.ms': '3600000',
  }
  return { topic: 't', partitions: 3, replicas: 3, inSync: 3, settings: { ...usual, ...settings }, ...more }
}

describe('a topic', () => {
  test.each<[string, StreamConfig, TopicFacts, string[]]>([
    ['is well', critical, facts(), ['ok']],
    ['keeps for ever', critical, facts({}, { 'retention.ms': '-1' }), ['ok']],
    ['wants more replicas than it has', realtime, facts({ replicas: 1, inSync: 1 }), ['failure']],
    ['has too few replicas in sync', realtime, facts({ inSync: 1 }), ['failure']],
    ['has a replica that is behind', realtime, facts({ inSync: 2 }), ['warning']],
    ['wants all replicas', realtime, facts({}, { 'min.insync.replicas': '3' }), ['warning']],
    ['acknowledges with one replica', critical, facts({}, { 'min.insync.replicas': '1' }), ['warning']],
    ['does so where nobody waits for it', realtime, facts({}, { 'min.insync.replicas': '1' }), ['ok']],
    [
      'is small and short',
      critical,
      facts({}, { 'max.message.bytes': '1000', 'retention.ms': '60000' }),
      ['warning', 'warning'],
    ],
    ['is compacted, with keys', critical, facts({}, { 'cleanup.policy': 'compact,delete' }), ['ok']],
    [
      'is compacted, without keys',
      { ...critical, key: 'none' },
      facts({}, { 'cleanup.policy': 'compact' }),
      ['failure'],
    ],
    ['does not tell its settings', critical, facts({ settings: null }), ['warning']],
  ])('that %s', (_, stream, topic, states) => {
    expect(judgeTopic(topic, configOf(stream)).map(({ state }) => state)).toEqual(states)
  })

  test('that is the dead-letter topic of a stream without keys may be compacted', () => {
    const stream = { ...critical, topic: 'other', deadLetterTopic: 't', key: 'none' } as const
    const compacted = facts({}, { 'cleanup.policy': 'compact' })
    expect(judgeTopic(compacted, configOf(stream)).map(({ state }) => state)).toEqual(['ok'])
  })
})

describe('the clock', () => {
  const clock = (aheadMs: number) => ({ nodeId: 1, aheadMs, uncertainMs: 5 })
  const strict = facts({}, { 'message.timestamp.before.max.ms': '10000' })
  const old = facts({ settings: { 'message.timestamp.difference.max.ms': '20000' } })

  test.each<[number, TopicFacts, string]>([
    [900, facts(), 'ok'],
    [30_000, facts(), 'warning'],
    [-30_000, facts(), 'warning'],
    [120_000, facts(), 'failure'],
    [-30_000, strict, 'failure'],
    [30_000, strict, 'warning'],
    [30_000, old, 'failure'],
    [
      30_000,
      facts({}, { 'message.timestamp.type': 'LogAppendTime', 'message.timestamp.after.max.ms': '1' }),
      'warning',
    ],
  ])('that is %i ms ahead: %#', (aheadMs, topic, state) => {
    expect(judgeClock(clock(aheadMs), [topic]).state).toBe(state)
  })

  test('that the cluster does not tell is no fault, and the reason is said', () => {
    expect(judgeClock('DESCRIBE on the cluster is not permitted', [])).toMatchObject({
      state: 'ok',
      detail: 'the cluster does not tell its time: DESCRIBE on the cluster is not permitted',
    })
  })
})

describe('descriptors', () => {
  test.each<[number | null, number, string]>([
    [null, 1, 'ok'],
    [1_048_576, 1, 'ok'],
    [20_000, 1, 'warning'],
    [10_100, 2, 'ok'],
    [1_024, 1, 'failure'],
  ])('%s for %i workers', (limit, workers, state) => {
    expect(judgeDescriptors({ ...configOf(critical), workers }, limit).state).toBe(state)
  })

  test('a limit that is enough for the MAX_CONNECTIONS that the doctor names is enough', () => {
    const config = configOf(critical)
    const { remedy } = judgeDescriptors(config, 5_000)
    const connections = Number(/set MAX_CONNECTIONS to (\d+)/.exec(remedy!)![1])
    const bounds = { ...config.http.bounds, connections }
    expect(judgeDescriptors({ ...config, http: { ...config.http, bounds } }, 5_000).state).toBe('ok')
  })
})

test('memory has to hold all buffers while Kafka is away', () => {
  expect(judgeMemory(configOf(critical), 512 << 20).state).toBe('ok')
  expect(judgeMemory(configOf(critical, { ...critical, name: 'b' }), 256 << 20).state).toBe('warning')
  // Two workers and the primary.
  expect(judgeMemory({ ...configOf(critical), workers: 2 }, 512 << 20).state).toBe('warning')
})

describe('the data folder', () => {
  const room = {
    freeBytes: 8 * 2 ** 30,
    usedBytes: 0,
    maxBytes: 4 * 2 ** 30,
    freeFiles: 1_000_000,
    syncMs: 2,
    isThere: true,
  }
  test.each<[string, Partial<typeof room>, string]>([
    ['is well', {}, 'ok'],
    ['is not there yet', { isThere: false }, 'ok'],
    ['has what the spools still may take', { freeBytes: 2 ** 30, usedBytes: 3 * 2 ** 30 }, 'ok'],
    ['is smaller than the spools may grow', { freeBytes: 2 ** 30 }, 'warning'],
    ['is full', { freeBytes: 4_096 }, 'failure'],
    ['takes no more files', { freeFiles: 0 }, 'failure'],
    ['is slow', { syncMs: 900 }, 'warning'],
    ['is small, and no stream is durable', { freeBytes: 4_096, maxBytes: 0 }, 'ok'],
  ])('that %s', (_, more, state) => {
    expect(judgeRoom('data folder /data', { ...room, ...more }).state).toBe(state)
  })

  function newFolder(): string {
    const folder = fs.mkdtempSync(join(tmpdir(), 'chute-doctor-'))
    onTestFinished(() => fs.rmSync(folder, { recursive: true }))
    return folder
  }

  test('that another container looks at, with the same number of the process, is judged all the same', () => {
    const dataDir = newFolder()
    fs.writeFileSync(join(dataDir, `doctor-${process.pid}.tmp`), '')
    const found = lookAtMachine({ ...configOf(critical), dataDir })
    expect(found.find(({ name }) => name.startsWith('data folder'))).toMatchObject({ state: 'ok' })
    expect(fs.readdirSync(dataDir)).toEqual([`doctor-${process.pid}.tmp`])
  })

  test('has its size without the files that a gateway removes meanwhile', () => {
    const folder = newFolder()
    fs.mkdirSync(join(folder, 'streams', 'gone'), { recursive: true })
    const [stays, goes] = [join(folder, 'streams', 'stays'), join(folder, 'goes')]
    for (const path of [stays, goes]) fs.writeFileSync(path, 'seven b')
    const readdir = fs.readdirSync
    const removing = vi.spyOn(fs, 'readdirSync').mockImplementation(((path: string, options: object) => {
      const entries = readdir(path, options)
      fs.rmSync(goes, { force: true })
      fs.rmSync(join(folder, 'streams', 'gone'), { recursive: true, force: true })
      return entries
    }) as typeof readdir)
    onTestFinished(() => removing.mockRestore())
    expect(sizeOfTree(folder)).toBe(7)
  })
})

import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test, vi } from 'vitest'
import type { ConsumedRecord } from '../../../src/kafka/consumer/consumer.ts'
import { execSink } from '../../../src/sinks/exec-sink.ts'

const record: ConsumedRecord = {
  topic: 't',
  partition: 0,
  offset: '0',
  timestampMs: 1_700_000_000_000,
  key: null,
  value: null,
  headers: {},
}

test.each([false, true])(
  'a command that closes its input and goes on ends the sink, and is killed when the time to stop is up (acknowledged: %s)',
  async (acknowledged) => {
    const folder = mkdtempSync(join(tmpdir(), 'chute-exec-'))
    onTestFinished(() => rmSync(folder, { recursive: true }))
    const closed = join(folder, 'closed')
    const sink = execSink(`exec <&-; : > ${closed}; sleep 1000`, { acknowledged, onSilence: () => {} })
    onTestFinished(async () => await sink.close(AbortSignal.abort()))
    await expect.poll(() => existsSync(closed)).toBe(true)
    const { signal } = new AbortController()
    const why = 'the command has closed its input'
    await expect(sink.process([record], { processed: () => {}, signal })).rejects.toThrow(why)
    await expect(sink.ended).resolves.toBe(why)
    await sink.close(AbortSignal.timeout(50))
  },
)

test('of a command that answers nothing, or no more, it is told once after ten seconds; of one that answers it is not', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  onTestFinished(() => void vi.useRealTimers())
  const told: string[] = []
  const sinkOf = (name: string, command: string) => {
    const sink = execSink(command, { acknowledged: true, onSilence: (ms) => void told.push(`${name} ${ms}`) })
    onTestFinished(async () => await sink.close(AbortSignal.abort()))
    return sink
  }
  const end = new AbortController()
  const { signal } = end
  await sinkOf('answers', 'cat').process([record, record], { processed: () => {}, signal })
  let onAnswer = (_count: number): void => {}
  const answered = new Promise<number>((resolve) => (onAnswer = resolve))
  const halfway = sinkOf('halfway', 'head -n 1; exec cat > /dev/null')
  const delivered = [
    sinkOf('silent', 'exec cat > /dev/null').process([record], { processed: () => {}, signal }),
    halfway.process([record, record], { processed: onAnswer, signal }),
  ].map(async (each) => await expect(each).rejects.toThrow('the time to stop is up'))
  expect(await answered).toBe(1)
  vi.advanceTimersByTime(9_999)
  expect(told).toEqual([])
  vi.advanceTimersByTime(1)
  expect(told.toSorted()).toEqual(['halfway 10000', 'silent 10000'])
  end.abort()
  await Promise.all(delivered)
  const again = new AbortController()
  const more = expect(
    halfway.process([record], { processed: () => {}, signal: again.signal }),
  ).rejects.toThrow()
  vi.advanceTimersByTime(60_000)
  again.abort()
  await more
  expect(told).toHaveLength(2)
})

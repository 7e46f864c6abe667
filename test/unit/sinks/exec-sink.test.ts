import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
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
    const sink = execSink(`exec <&-; : > ${closed}; sleep 1000`, { acknowledged })
    onTestFinished(async () => await sink.close(AbortSignal.abort()))
    await expect.poll(() => existsSync(closed)).toBe(true)
    const { signal } = new AbortController()
    const why = 'the command has closed its input'
    await expect(sink.process([record], { processed: () => {}, signal })).rejects.toThrow(why)
    await expect(sink.ended).resolves.toBe(why)
    await sink.close(AbortSignal.timeout(50))
  },
)

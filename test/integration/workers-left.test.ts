import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test, vi } from 'vitest'
import { buildGateway } from '../../src/app.ts'
import { loadConfig } from '../../src/config/load-config.ts'
import { DurableProducer } from '../../src/spool/durable-producer.ts'
import { SentJournal } from '../../src/spool/sent-journal.ts'
import { LogKeeper } from '../support/producer-fixture.ts'

test('a stream that cannot be opened leaves nothing at work on the folders of workers that are gone', () => {
  const dataDir = mkdtempSync(join(tmpdir(), 'chute-left-'))
  onTestFinished(() => rmSync(dataDir, { recursive: true }))
  for (const worker of ['1', '2']) {
    const folder = join(dataDir, 'workers', worker, 'spool', 'critical')
    mkdirSync(folder, { recursive: true })
    writeFileSync(join(folder, '000000000000001.notes'), '')
    writeFileSync(join(dataDir, 'workers', worker, 'version'), 'chute data folder, format 2\n')
  }
  const streams = join(dataDir, 'chute.json')
  writeFileSync(streams, JSON.stringify({ streams: { critical: { topic: 't', delivery: 'at-least-once' } } }))
  const config = loadConfig({
    KAFKA_BROKERS: '127.0.0.1:1',
    CHUTE_CONFIG: streams,
    CHUTE_DATA_DIR: dataDir,
  })
  // The last one to open is the stream's own folder.
  const begin = vi.spyOn(SentJournal.prototype, 'start')
  begin.mockReturnValueOnce().mockReturnValueOnce()
  begin.mockImplementationOnce(() => {
    throw new Error('the disk says no')
  })
  const abort = vi.spyOn(DurableProducer.prototype, 'abort')
  onTestFinished(() => void vi.restoreAllMocks())
  expect(() => buildGateway(config, new LogKeeper())).toThrow('the disk says no')
  expect(abort).toHaveBeenCalledTimes(2)
})

import cluster, { type Worker } from 'node:cluster'
import { EventEmitter } from 'node:events'
import { afterEach, expect, test, vi } from 'vitest'
import type { Config } from '../../../src/config/config.ts'
import { WorkerGroup } from '../../../src/workers/worker-group.ts'
import type { ToWorker } from '../../../src/workers/messages.ts'
import { testConfig } from '../../support/gateway.ts'
import { LogKeeper } from '../../support/producer-fixture.ts'

/** A worker that listens at once, and ends when it is told to. */
class FakeWorker extends EventEmitter {
  readonly told: ToWorker['type'][] = []
  readonly kill = vi.fn()
  readonly process = Object.assign(new EventEmitter(), { pid: 1, kill: this.kill, send: () => true })

  constructor() {
    super()
    queueMicrotask(() => {
      this.emit('message', { type: 'hello' })
      this.emit('message', { type: 'listening', url: 'http://127.0.0.1:1', adminUrl: null })
    })
  }

  isConnected(): boolean {
    return true
  }

  send({ type }: ToWorker): void {
    this.told.push(type)
  }

  end(): void {
    this.process.emit('close', 0, null)
  }
}

afterEach(() => {
  vi.useRealTimers()
  vi.restoreAllMocks()
})

/** Two workers. @returns those that were started so far, in order. */
async function startGroup(change: Partial<Config>, logger = new LogKeeper()) {
  vi.useFakeTimers()
  const workers: FakeWorker[] = []
  const fork = vi.spyOn(cluster, 'fork').mockImplementation(() => {
    workers.push(new FakeWorker())
    return workers.at(-1) as unknown as Worker
  })
  const config = testConfig({ brokers: ['127.0.0.1:1'], streams: [] })
  const group = new WorkerGroup({ ...config, workers: 2, ...change }, logger)
  await group.start()
  return { group, workers, fork }
}

test('a worker for which the kernel has no memory is tried again, and the others go on', async () => {
  const logger = new LogKeeper()
  const { group, workers, fork } = await startGroup({}, logger)
  fork.mockImplementationOnce(() => {
    throw new Error('spawn ENOMEM')
  })
  workers[0]!.end()
  await vi.advanceTimersByTimeAsync(10_000)
  expect(fork).toHaveBeenCalledTimes(4)
  expect(logger.lines).toContainEqual({
    level: 'error',
    fields: { worker: 1, cause: 'spawn ENOMEM' },
    message: 'a worker could not be started; it is tried again',
  })
  const drained = group.drain(null)
  for (const worker of workers) worker.end()
  await expect(drained).resolves.toEqual({ lost: 0 })
})

test('the longest times to shut down leave the workers their time', async () => {
  const longestMs = 2 ** 31 - 1
  const { group, workers } = await startGroup({
    shutdownTimeoutMs: longestMs,
    spoolDrainTimeoutMs: longestMs,
  })
  const drained = group.drain(null)
  await vi.advanceTimersByTimeAsync(3_600_000)
  for (const { kill, told } of workers) {
    expect(told).toContain('drain')
    expect(kill).not.toHaveBeenCalled()
  }
  for (const worker of workers) worker.end()
  await expect(drained).resolves.toEqual({ lost: 0 })
})

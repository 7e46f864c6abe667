import { randomInt } from 'node:crypto'
import { defineConfig } from 'vitest/config'
import { LongestFirst } from './test/support/longest-first.ts'
import { SecondTries } from './test/support/second-tries.ts'

/**
 * In CI a test has a second try: the machine is shared, and a pause of seconds there is no fault of ours. Each test that needed its
 * second try is named at the end (`second-tries.ts`). A fault of the code fails twice: both tries have the same seed. Elsewhere nothing
 * is tried twice, so that a flaw is seen.
 */
const retry = process.env['CI'] === undefined ? 0 : 1

/** Each worker reads the variable (`test/support/seed.ts`), and all have to have the same number. */
if (process.env['PROMISE_SEED'] === 'random') process.env['PROMISE_SEED'] = String(randomInt(2 ** 31))
if (process.env['PROMISE_SEED'] !== undefined)
  process.stderr.write(`PROMISE_SEED=${process.env['PROMISE_SEED']}\n`)

/** The long form of the faults measures times, so nothing runs beside it. */
const isFull = process.env['CHUTE_FAULTS'] === 'full'

/**
 * Unit and integration tests need the CPU. Some wait, so one file more runs at a time than there are cores. Integration tests have short
 * limits of time, so they do not run beside brokers.
 */
const inProcess = 3

/**
 * End-to-end tests and faults wait for most of their time: for brokers that start, for groups that settle, for a fault to last.
 * So more of them run side by side than there are cores. Each has topics of its own, and one that harms a broker has a
 * broker of its own.
 */
const sideBySide = 4

/** Where the results are to be written as JSON, for `.ci/run`. */
const report = process.env['CHUTE_TEST_REPORT']

/** Where `test/image/build` has left the image. `test/image/run` builds the image, and gives it to its tests. */
const image = process.env['CHUTE_IMAGE']

/**
 * One project a kind of test, so that `npx vitest run --project unit` needs no broker. `isolate: false`: a file finds the modules that
 * earlier files of its process have loaded. Much of the time was spent to load them anew. A file that changes something global undoes that.
 */
export default defineConfig({
  test: {
    reporters: [
      'default',
      new SecondTries(),
      ...(report === undefined ? [] : [['json', { outputFile: report }] as const]),
    ],
    sequence: { sequencer: LongestFirst },
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/unit/**/*.test.ts'],
          setupFiles: ['test/support/property-setup.ts'],
          pool: 'threads',
          maxWorkers: inProcess,
          isolate: false,
          retry,
          // Property tests on a machine that is busy with something else.
          testTimeout: 30_000,
        },
      },
      {
        test: {
          name: 'integration',
          include: ['test/integration/**/*.test.ts'],
          setupFiles: ['test/support/property-setup.ts'],
          globalSetup: ['test/support/build-setup.ts'],
          maxWorkers: inProcess,
          isolate: false,
          // Tests of a file that say so wait side by side.
          maxConcurrency: 40,
          retry,
          testTimeout: 30_000,
        },
      },
      {
        test: {
          name: 'e2e',
          include: ['test/e2e/**/*.test.ts'],
          globalSetup: ['test/support/build-setup.ts', 'test/support/broker-setup.ts'],
          maxWorkers: sideBySide,
          isolate: false,
          sequence: { groupOrder: 1 },
          retry,
          testTimeout: 60_000,
          hookTimeout: 120_000,
        },
      },
      {
        test: {
          name: 'faults',
          include: ['test/faults/**/*.test.ts'],
          globalSetup: ['test/support/build-setup.ts', 'test/support/broker-setup.ts'],
          maxWorkers: isFull ? 1 : sideBySide,
          isolate: false,
          sequence: { groupOrder: isFull ? 2 : 1 },
          retry,
          testTimeout: 180_000,
          hookTimeout: 180_000,
        },
      },
      ...(image === undefined
        ? []
        : [
            {
              test: {
                name: 'image',
                include: ['test/image/**/*.test.ts'],
                // They share the file system of the image.
                maxWorkers: 1,
                globalSetup: ['test/support/broker-setup.ts'],
                retry,
                testTimeout: 60_000,
                hookTimeout: 60_000,
              },
            },
          ]),
    ],
  },
})

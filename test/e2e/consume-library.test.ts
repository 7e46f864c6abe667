import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { expect, inject, onTestFinished, test } from 'vitest'
import { isLong } from '../support/forms.ts'
import { createTopic } from '../support/independent-reader.ts'
import { writeNumbered } from '../support/numbered-records.ts'

const run = promisify(execFile)
const compiler = resolve('node_modules/typescript/bin/tsc')

/** A folder of somebody else's, in which the built package is installed as npm would. */
async function installed(): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'chute-library-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const chute = join(folder, 'node_modules', '@chute-gateway', 'chute')
  mkdirSync(chute, { recursive: true })
  copyFileSync('package.json', join(chute, 'package.json'))
  symlinkSync(resolve('node_modules'), join(chute, 'node_modules'))
  mkdirSync(join(folder, 'node_modules', '@types'))
  symlinkSync(resolve('node_modules/@types/node'), join(folder, 'node_modules', '@types', 'node'))
  await run(process.execPath, [compiler, '-p', 'tsconfig.build.json', '--outDir', join(chute, 'dist')])
  return folder
}

const program = `
import { consume, type ConsumedRecord } from '@chute-gateway/chute/consumer'

const values: unknown[] = []
const consumer = consume({
  brokers: [process.argv[2] ?? ''],
  topic: process.argv[3] ?? '',
  group: 'library',
  settings: { 'auto.offset.reset': 'earliest' },
  async process(records: readonly ConsumedRecord[]) {
    for (const { value } of records) values.push(JSON.parse(String(value)))
    if (values.length < 20) return
    setImmediate(async () => {
      await consumer.stop(5_000)
      console.log(JSON.stringify({ values: values.length, lost: consumer.stats.lost }))
    })
  },
})
`

test.runIf(isLong)(
  '@chute-gateway/chute/consumer can be used from another folder, with its types',
  { timeout: 120_000 },
  async () => {
    const broker = inject('kafkaBroker')
    const topic = `library-${randomUUID()}`
    await createTopic(broker, topic, { partitions: 1 })
    await writeNumbered(broker, topic, { count: 20 })
    const folder = await installed()
    writeFileSync(join(folder, 'package.json'), '{ "type": "module" }')
    writeFileSync(join(folder, 'program.ts'), program)
    const strict = ['--strict', '--module', 'nodenext', '--target', 'es2023', '--types', 'node']
    await run(process.execPath, [compiler, ...strict, 'program.ts'], { cwd: folder })
    const { stdout } = await run(process.execPath, ['program.js', broker, topic], { cwd: folder })
    expect(JSON.parse(stdout)).toEqual({ values: 20, lost: 0 })
  },
)

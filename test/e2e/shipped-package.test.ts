import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, inject, onTestFinished, test } from 'vitest'
import { isLong } from '../support/forms.ts'
import { readTopic } from '../support/independent-reader.ts'
import { chuteEnvironment, serveGateway } from '../support/served-gateway.ts'

const run = promisify(execFile)

/** Builds, packs and installs, which takes its time and the registry: for CI, and for whoever sets CI. */
test.runIf(isLong)(
  'the package as npm packs it runs with production dependencies only',
  { timeout: 300_000 },
  async () => {
    const folder = mkdtempSync(join(tmpdir(), 'chute-package-'))
    onTestFinished(() => rmSync(folder, { recursive: true }))
    await run('npm', ['run', 'build'])
    // Without `prepack`, which would take dist/ away from tests beside this one.
    const packing = ['pack', '--silent', '--ignore-scripts', '--pack-destination', folder]
    const { stdout: tarball } = await run('npm', packing)
    await run('tar', ['xzf', tarball.trim()], { cwd: folder })
    const cwd = join(folder, 'package')
    const { bin, exports } = JSON.parse(readFileSync(join(cwd, 'package.json'), 'utf8')) as {
      bin: { chute: string }
      exports: Record<string, string | Record<string, string>>
    }
    const targets = Object.values(exports).flatMap((each) =>
      typeof each === 'string' ? each : Object.values(each),
    )
    expect([bin.chute, ...targets].filter((path) => !existsSync(join(cwd, path)))).toEqual([])
    copyFileSync('package-lock.json', join(cwd, 'package-lock.json'))
    await run('npm', ['ci', '--omit=dev', '--no-audit', '--no-fund'], { cwd })

    const client = `import { createChute } from './dist/client/chute.js'; createChute({ url: 'https://a.example' })('a')`
    await run(process.execPath, ['--input-type=module', '--eval', client], { cwd })

    const topic = `package-${randomUUID()}`
    const file = join(folder, 'chute.yaml')
    writeFileSync(file, `streams: { s: { topic: ${topic}, delivery: at-most-once } }\n`)
    const env = { KAFKA_BROKERS: inject('kafkaBroker'), CHUTE_CONFIG: file }
    const main = join(cwd, 'dist', 'main.js')
    const checked = await run(process.execPath, [main, 'check'], { env: chuteEnvironment(env) })
    expect(checked.stdout).toContain(topic)

    const gateway = await serveGateway(env, [main])
    onTestFinished(() => gateway.signal('SIGKILL'))
    await gateway.ready()
    for (const path of ['/', '/chute.js', '/docs', '/openapi.yaml', '/metrics', '/livez'])
      expect([path, (await fetch(gateway.url + path)).status]).toEqual([path, 200])
    const body = '{"name":"room.temp","value":21.5}'
    expect((await fetch(`${gateway.url}/v1/streams/s`, { method: 'POST', body })).status).toBe(202)
    gateway.signal('SIGTERM')
    expect(await gateway.ended()).toBe(0)
    const landed = await readTopic(inject('kafkaBroker'), topic)
    expect(landed.map(({ value }) => value.toString())).toEqual([body])
  },
)

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { tokenSource } from '../../../../src/kafka/network/bearer-tokens.ts'
import { mskToken } from '../../../../src/kafka/network/msk-iam.ts'

const source = { from: 'aws', region: 'eu-central-1', roleArn: null } as const

/** What AWS reads of a token. */
function requestOf(token: string): URL {
  return new URL(Buffer.from(token, 'base64url').toString())
}

describe('a token for MSK', () => {
  beforeEach(() => {
    // Nothing of this machine counts.
    vi.stubEnv('AWS_EC2_METADATA_DISABLED', 'true')
    for (const name of ['AWS_CONFIG_FILE', 'AWS_SHARED_CREDENTIALS_FILE']) vi.stubEnv(name, '/dev/null')
    for (const name of ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_PROFILE'])
      vi.stubEnv(name, undefined)
  })
  afterEach(() => vi.unstubAllEnvs())

  /** A program that prints credentials, as AWS's tools call it. It counts its calls in their name. */
  function credentialProcess(lifeMs: number): void {
    const folder = mkdtempSync(join(tmpdir(), 'chute-aws-'))
    onTestFinished(() => rmSync(folder, { recursive: true }))
    const [program, config] = [join(folder, 'print.mjs'), join(folder, 'config')]
    writeFileSync(
      program,
      `import { appendFileSync, readFileSync } from 'node:fs'
      appendFileSync(${JSON.stringify(join(folder, 'calls'))}, 'x')
      const calls = readFileSync(${JSON.stringify(join(folder, 'calls'))}).length
      const Expiration = new Date(Date.now() + ${lifeMs}).toISOString()
      console.log(JSON.stringify({ Version: 1, AccessKeyId: 'ID' + calls, SecretAccessKey: 's', SessionToken: 't', Expiration }))`,
    )
    writeFileSync(config, `[default]\ncredential_process = ${process.execPath} ${program}\n`)
    vi.stubEnv('AWS_CONFIG_FILE', config)
  }

  test('is a signed request to connect, for the region, and lasts 15 minutes', async () => {
    vi.stubEnv('AWS_ACCESS_KEY_ID', 'AKIATEST')
    vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'hunter2')
    const { value, endsAtMs } = await tokenSource(source)()
    expect(value).toMatch(/^[\w-]+$/)
    const { protocol, host, searchParams } = requestOf(value)
    expect([protocol, host]).toEqual(['https:', 'kafka.eu-central-1.amazonaws.com'])
    expect(Object.fromEntries(searchParams)).toMatchObject({
      Action: 'kafka-cluster:Connect',
      'X-Amz-Algorithm': 'AWS4-HMAC-SHA256',
      'X-Amz-Credential': expect.stringMatching(
        /^AKIATEST\/\d{8}\/eu-central-1\/kafka-cluster\/aws4_request$/,
      ),
      'X-Amz-Expires': '900',
      'X-Amz-Signature': expect.stringMatching(/^[0-9a-f]{64}$/),
    })
    expect(endsAtMs! - Date.now()).toBeGreaterThan(890_000)
    expect(endsAtMs! - Date.now()).toBeLessThanOrEqual(900_000)
    expect(Buffer.from(value, 'base64url').toString()).not.toContain('hunter2')
  })

  test('ends with the credentials, in whole seconds, and the next one has new credentials', async () => {
    credentialProcess(100_400)
    const first = await mskToken(source)
    const seconds = Number(requestOf(first.value).searchParams.get('X-Amz-Expires'))
    expect(Number.isInteger(seconds)).toBe(true)
    expect(seconds).toBeGreaterThan(60)
    expect(seconds).toBeLessThanOrEqual(100)
    expect(first.endsAtMs - Date.now()).toBeLessThanOrEqual(100_000)
    const second = await mskToken(source)
    const ids = [first, second].map(
      ({ value }) => requestOf(value).searchParams.get('X-Amz-Credential')!.split('/')[0],
    )
    expect(ids).toEqual(['ID1', 'ID2'])
  })

  test('that cannot be had says why', async () => {
    await expect(mskToken(source)).rejects.toThrow(
      'no token from AWS: Could not load credentials from any providers',
    )
  })
})

test('without the package, the error says what to install', async () => {
  vi.resetModules()
  vi.doMock('node:module', () => ({
    createRequire: () => ({
      resolve: () => {
        throw Object.assign(new Error("Cannot find module 'aws-msk-iam-sasl-signer-js'"), {
          code: 'MODULE_NOT_FOUND',
        })
      },
    }),
  }))
  onTestFinished(() => {
    vi.doUnmock('node:module')
    vi.resetModules()
  })
  const { mskToken: withoutPackage } = await import('../../../../src/kafka/network/msk-iam.ts')
  await expect(withoutPackage(source)).rejects.toThrow(
    'no token from AWS: the package aws-msk-iam-sasl-signer-js is not installed. Install it beside Chute: npm install aws-msk-iam-sasl-signer-js',
  )
})

import { describe, expect, test } from 'vitest'
import { describeConfig } from '../../../src/config/describe-config.ts'
import { load, problemsOf } from '../../support/config-fixture.ts'

const bearer = { KAFKA_SASL_MECHANISM: 'OAUTHBEARER' }
const prefix = 'KAFKA_SASL_OAUTHBEARER_'
const endpoint = {
  ...bearer,
  [`${prefix}TOKEN_ENDPOINT_URL`]: 'https://login.example.com/token',
  [`${prefix}CLIENT_ID`]: 'gateway',
  [`${prefix}CLIENT_SECRET`]: ' with blanks ',
}

describe('OAUTHBEARER', () => {
  test('gets tokens with client credentials, from a file or from a command', () => {
    expect(load(endpoint).kafka.sasl).toEqual({
      mechanism: 'oauthbearer',
      token: {
        from: 'endpoint',
        url: 'https://login.example.com/token',
        clientId: 'gateway',
        clientSecret: ' with blanks ',
        scope: null,
        audience: null,
      },
      extensions: {},
    })
    const more = {
      ...endpoint,
      [`${prefix}SCOPE`]: 'kafka.write',
      [`${prefix}AUDIENCE`]: 'kafka',
      [`${prefix}EXTENSIONS`]: 'logicalCluster=lkc-1, identityPoolId=pool=1',
    }
    expect(load(more).kafka.sasl).toMatchObject({
      token: { scope: 'kafka.write', audience: 'kafka' },
      extensions: { logicalCluster: 'lkc-1', identityPoolId: 'pool=1' },
    })
    expect(load({ ...bearer, [`${prefix}TOKEN_FILE`]: '/run/token' }).kafka.sasl).toMatchObject({
      token: { from: 'file', path: '/run/token' },
    })
    expect(load({ ...bearer, [`${prefix}TOKEN_COMMAND`]: 'print-token' }).kafka.sasl).toMatchObject({
      token: { from: 'command', command: 'print-token' },
    })
  })

  test('its secret may come from a file, and is never printed', () => {
    const env = {
      ...endpoint,
      [`${prefix}CLIENT_SECRET`]: undefined,
      [`${prefix}CLIENT_SECRET_FILE`]: '/run/secret',
    }
    const config = load(env, { '/run/secret': 'hunter2\n' })
    expect(config.kafka.sasl).toMatchObject({ token: { clientSecret: 'hunter2' } })
    const printed = describeConfig(config)
    expect(printed).toContain('KAFKA_SASL_OAUTHBEARER_CLIENT_ID: gateway')
    expect(printed).not.toContain('hunter2')
  })

  test('the query of its endpoint, which may have a secret, is not printed', () => {
    const url = 'https://login.example.com/token?code=hunter2'
    const printed = describeConfig(load({ ...endpoint, [`${prefix}TOKEN_ENDPOINT_URL`]: url }))
    expect(printed).toContain('https://login.example.com/token?********')
    expect(printed).not.toContain('hunter2')
  })

  const file = { ...bearer, [`${prefix}TOKEN_FILE`]: '/run/token' }
  test.each([
    ['no source', bearer, 'KAFKA_SASL_MECHANISM', /nothing says where tokens come from/],
    ['two sources', { ...endpoint, ...file }, 'KAFKA_SASL_MECHANISM', /tokens come from .*URL and .*FILE/],
    [
      'half of the credentials',
      { ...endpoint, [`${prefix}CLIENT_ID`]: '' },
      `${prefix}CLIENT_ID`,
      /is not set, while/,
    ],
    ['a scope for a file', { ...file, [`${prefix}SCOPE`]: 'a' }, `${prefix}SCOPE`, /without .*URL/],
    [
      'a user',
      { ...file, KAFKA_SASL_USERNAME: 'u' },
      'KAFKA_SASL_USERNAME',
      /KAFKA_SASL_MECHANISM is oauthbearer/,
    ],
    [
      'a token beside a password',
      { ...file, KAFKA_SASL_MECHANISM: 'plain', KAFKA_SASL_USERNAME: 'u', KAFKA_SASL_PASSWORD: 'p' },
      `${prefix}TOKEN_FILE`,
      /KAFKA_SASL_MECHANISM is plain/,
    ],
    [
      'an endpoint that is no URL',
      { ...endpoint, [`${prefix}TOKEN_ENDPOINT_URL`]: 'login' },
      `${prefix}TOKEN_ENDPOINT_URL`,
      /is not a URL/,
    ],
    [
      'a user in the URL',
      { ...endpoint, [`${prefix}TOKEN_ENDPOINT_URL`]: 'https://a:b@login.example.com/' },
      `${prefix}TOKEN_ENDPOINT_URL`,
      /is not a URL/,
    ],
    [
      'extensions without values',
      { ...file, [`${prefix}EXTENSIONS`]: 'lkc-1' },
      `${prefix}EXTENSIONS`,
      /extensions/,
    ],
    [
      'an extension auth',
      { ...file, [`${prefix}EXTENSIONS`]: 'auth=x' },
      `${prefix}EXTENSIONS`,
      /extensions/,
    ],
  ])('with %s is refused', (_what, env, path, problem) => {
    expect(problemsOf(() => load(env))).toContainEqual(
      expect.objectContaining({ path, problem: expect.stringMatching(problem) }),
    )
  })
})

describe('AWS_MSK_IAM', () => {
  const msk = { KAFKA_SASL_MECHANISM: 'AWS_MSK_IAM' }
  const brokers = 'b-1.events.abc123.c2.kafka.eu-central-1.amazonaws.com:9098'

  test.each([
    [brokers, 'eu-central-1'],
    ['boot-abc123.c1.kafka-serverless.us-east-1.amazonaws.com:9098', 'us-east-1'],
    ['b-1.events.abc123.c2.kafka.cn-north-1.amazonaws.com.cn:9098', 'cn-north-1'],
  ])('knows the region of %s', (KAFKA_BROKERS, region) => {
    expect(load({ ...msk, KAFKA_BROKERS }).kafka.sasl).toEqual({
      mechanism: 'aws_msk_iam',
      token: { from: 'aws', region, roleArn: null },
      extensions: {},
    })
  })

  test('takes another region and a role, and prints them', () => {
    const more = { KAFKA_SASL_AWS_REGION: 'eu-west-1', KAFKA_SASL_AWS_ROLE_ARN: 'arn:aws:iam::1:role/chute' }
    const config = load({ ...msk, KAFKA_BROKERS: brokers, ...more })
    expect(config.kafka.sasl).toMatchObject({
      token: { region: 'eu-west-1', roleArn: 'arn:aws:iam::1:role/chute' },
    })
    expect(describeConfig(config)).toContain('KAFKA_SASL_AWS_REGION: eu-west-1')
  })

  test.each<[string, NodeJS.ProcessEnv, RegExp]>([
    ['no region', {}, /KAFKA_SASL_AWS_REGION is not set, and no name in KAFKA_BROKERS has a region/],
    [
      'a password',
      { KAFKA_BROKERS: brokers, KAFKA_SASL_PASSWORD: 'p' },
      /KAFKA_SASL_PASSWORD is set.*aws_msk_iam/,
    ],
    [
      'a token of another kind',
      { KAFKA_BROKERS: brokers, [`${prefix}TOKEN_FILE`]: '/t' },
      /TOKEN_FILE is set[^]*KAFKA_SASL_MECHANISM=oauthbearer/,
    ],
  ])('refuses %s', (_, env, expected) => {
    const [problem] = problemsOf(() => load({ ...msk, ...env }))
    expect(`${problem!.path} ${problem!.problem} ${problem!.remedy}`).toMatch(expected)
  })

  test('its settings are refused with another mechanism', () => {
    const problems = problemsOf(() => load({ ...endpoint, KAFKA_SASL_AWS_REGION: 'eu-west-1' }))
    expect(problems).toMatchObject([
      { path: 'KAFKA_SASL_AWS_REGION', remedy: expect.stringContaining('aws_msk_iam') },
    ])
  })
})

import { createRequire } from 'node:module'
import { dirname } from 'node:path'
import type * as signer from 'aws-msk-iam-sasl-signer-js'
import type { TokenSourceConfig } from '../../config/kafka-login.ts'

/**
 * A token for Amazon MSK's IAM: a signed request for `kafka-cluster:Connect`, which AWS's own package makes. Chute loads the package when a token is first
 * asked for, since few gateways need it and it is 29 MB with what it needs. The credentials are looked up anew for each token: as AWS's tools do, or those of a
 * role that is taken on with them.
 * @returns the token, and when it ends: 15 minutes later, or with the credentials.
 * @throws Error that says what is missing.
 */
export async function mskToken({
  region,
  roleArn,
}: Extract<TokenSourceConfig, { from: 'aws' }>): Promise<{ value: string; endsAtMs: number }> {
  const aws = await load()
  try {
    const { credentials } = aws
    const provider =
      roleArn === null
        ? credentials.fromNodeProviderChain({ clientConfig: { region } })
        : credentials.fromTemporaryCredentials({
            params: { RoleArn: roleArn, RoleSessionName: 'chute' },
            clientConfig: { region },
          })
    const found = await provider()
    for (let tries = 0; ; tries++) {
      const awsCredentialsProvider = async (): Promise<Credentials> => withWholeSeconds(found)
      const { generateAuthTokenFromCredentialsProvider } = aws.signer
      const { token, expiryTime } = await generateAuthTokenFromCredentialsProvider({
        region,
        awsCredentialsProvider,
      })
      if (tries === mostTries || isWhole(token)) return { value: token, endsAtMs: expiryTime }
    }
  } catch (error) {
    throw new Error(`no token from AWS: ${(error as Error).message}`, { cause: error })
  }
}

/**
 * The package signs `X-Amz-Expires` with the milliseconds that credentials have left, and AWS takes whole seconds only
 * (https://github.com/aws/aws-msk-iam-sasl-signer-js/pull/33, open with version 1.0.3). It subtracts its own clock from the end of the
 * credentials. So the end is told from that clock, in whole seconds. The clock may go on by a millisecond in between: see {@link isWhole}.
 */
function withWholeSeconds(credentials: Credentials): Credentials {
  const { expiration } = credentials
  if (expiration === undefined) return credentials
  const leftSeconds = Math.max(1, Math.floor((expiration.getTime() - Date.now()) / 1_000))
  const end = new Date(expiration)
  end.getTime = () => Date.now() + leftSeconds * 1_000
  return { ...credentials, expiration: end }
}

function isWhole(token: string): boolean {
  return /[?&]X-Amz-Expires=\d+(&|$)/.test(Buffer.from(token, 'base64url').toString())
}

type Credentials = Awaited<
  ReturnType<Parameters<typeof signer.generateAuthTokenFromCredentialsProvider>[0]['awsCredentialsProvider']>
>

/** What is used of `@aws-sdk/credential-providers`, which the package brings along. */
interface CredentialProviders {
  fromNodeProviderChain(options: object): () => Promise<Credentials>
  fromTemporaryCredentials(options: object): () => Promise<Credentials>
}

/** @throws Error that says what to install. */
async function load(): Promise<{ signer: typeof signer; credentials: CredentialProviders }> {
  const require = createRequire(import.meta.url)
  let path: string
  try {
    path = require.resolve(packageName)
  } catch (error) {
    throw new Error(
      `no token from AWS: the package ${packageName} is not installed. Install it beside Chute: npm install ${packageName}`,
      { cause: error },
    )
  }
  // The package's own dependency, wherever a package manager has put it.
  const credentials = createRequire(`${dirname(path)}/`)(
    '@aws-sdk/credential-providers',
  ) as CredentialProviders
  return { signer: (await import(packageName)) as typeof signer, credentials }
}

const packageName = 'aws-msk-iam-sasl-signer-js'
const mostTries = 5

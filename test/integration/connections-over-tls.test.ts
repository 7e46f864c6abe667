import { afterAll, describe } from 'vitest'
import { speakTls } from '../support/edge.ts'
import { isLong } from '../support/forms.ts'

// The same tests, over TLS: all that they say of connections holds there too.
if (isLong) afterAll(speakTls())
describe.runIf(isLong)('over TLS,', async () => void (await import('./connections.test.ts')))
describe.runIf(isLong)('over TLS,', async () => void (await import('./sockets.test.ts')))

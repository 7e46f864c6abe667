import { describe } from 'vitest'
import { speakTls } from '../support/edge.ts'

// The same tests, over TLS: all that they say of connections holds there too.
speakTls()
describe('over TLS,', async () => void (await import('./connections.test.ts')))
describe('over TLS,', async () => void (await import('./sockets.test.ts')))

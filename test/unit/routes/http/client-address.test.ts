import { expect, test } from 'vitest'
import { clientNetwork } from '../../../../src/routes/http/client-address.ts'

test.each([
  ['203.0.113.9', '203.0.113.9'],
  ['203.0.113.9:50001', '203.0.113.9'],
  ['"203.0.113.9:_port"', '203.0.113.9'],
  ['2001:db8:0:1::7', '2001:db8:0:1::'],
  ['2001:DB8:0:1:ffff::8', '2001:db8:0:1::'],
  ['[2001:db8:0:1::7]', '2001:db8:0:1::'],
  ['"[2001:db8:0:1::7]:4711"', '2001:db8:0:1::'],
  ['::ffff:203.0.113.9', '203.0.113.9'],
  ['::ffff:203.0.113.9:50001', '203.0.113.9'],
  ['[::ffff:203.0.113.9]:80', '203.0.113.9'],
  ['fe80::1%eth0', 'fe80::'],
  ['unknown', 'unknown'],
  ['_hidden:80', '_hidden'],
  ['', ''],
])('%s is the client %s', (address, client) => {
  expect(clientNetwork(address)).toBe(client)
})

test('a connection that was reset before it was taken has no address, and is one client with others of its kind', () => {
  expect(clientNetwork(undefined)).toBe('')
})

import type { IncomingMessage } from 'node:http'

/**
 * What is wrong with the Host of a request; null: nothing. HTTP/1.1 needs one line of it, and no version takes two, or a
 * value that is no host (RFC 9112, section 3.2). Gateways in a chain that read different hosts route differently.
 */
export function hostFlaw({ rawHeaders, httpVersionMajor, httpVersionMinor }: IncomingMessage): string | null {
  let host: string | null = null
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at]!
    if (name.length !== 4 || name.toLowerCase() !== 'host') continue
    if (host !== null) return 'a request has one Host line, and this one has more'
    host = rawHeaders[at + 1]!
  }
  if (host === null) {
    const isNeeded = httpVersionMajor === 1 && httpVersionMinor === 1
    return isNeeded ? 'a request of HTTP/1.1 has a Host line, and this one has none' : null
  }
  return hostAndPort.test(host) ? null : 'the Host line is not host or host:port'
}

/** RFC 3986, section 3.2.2: a name or an IPv4 address, or an IP address in brackets; empty where the target has no host. */
const hostAndPort =
  /^(?:\[[0-9a-z:.\-_~!$&'()*+,;=]+\]|(?:[0-9a-z\-._~!$&'()*+,;=]|%[0-9a-f]{2})*)(?::\d*)?$/i

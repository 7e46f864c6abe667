import { isIPv4, isIPv6 } from 'node:net'
import ipaddr from 'ipaddr.js'

/**
 * The key of one client: an IPv4 address, or an IPv6 network of 64 bits. A client can use every address of such a network.
 * @param address as a proxy has written it. Some proxies add a port and brackets (RFC 7239, section 6), which are removed. A text that is no
 * address (`unknown`, `_hidden`) is the key itself.
 */
export function clientNetwork(address: string | undefined): string {
  const bare = withoutPort(address)
  if (!ipaddr.isValid(bare)) return bare.toLowerCase()
  // An IPv4 address may be mapped into an IPv6 address.
  const parsed = ipaddr.process(bare)
  if (parsed.kind() === 'ipv4') return parsed.toString()
  return ipaddr.IPv6.networkAddressFromCIDR(`${parsed.toNormalizedString()}/64`).toString()
}

/** The whole address of a client, without a port; null for what is no address. An IPv4 address inside an IPv6 one is the IPv4 address. */
export function clientAddress(address: string | undefined): string | null {
  const bare = withoutPort(address)
  return ipaddr.isValid(bare) ? ipaddr.process(bare).toString() : null
}

/** A connection that its client reset before it was taken has no address, and a request that came before. */
function withoutPort(address = ''): string {
  const text = /^"?(.*?)"?$/.exec(address.trim())![1]!
  const bracketed = /^\[([^\]]*)\](?::\S*)?$/.exec(text)?.[1]
  if (bracketed !== undefined) return bracketed
  if (isIPv4(text) || isIPv6(text)) return text
  // A mapped IPv4 address with a port behind it. Of another IPv6 address without brackets nobody can tell the port.
  const mapped = /^(.*:\d+\.\d+\.\d+\.\d+):\d{1,5}$/.exec(text)?.[1]
  if (mapped !== undefined && isIPv6(mapped)) return mapped
  return /^([^:]+):[^:]*$/.exec(text)?.[1] ?? text
}

/** The network of an address, for the log. An IPv4 address is cut to 24 bits, and an IPv6 address to 48. */
export function clientPrefix(address: string): string {
  let prefix = prefixes.get(address)
  if (prefix === undefined) {
    prefix = prefixOf(address)
    if (prefixes.size >= mostPrefixes) prefixes.clear()
    prefixes.set(address, prefix)
  }
  return prefix
}

/** A client that floods is refused often, and each refusal has its network. */
const prefixes = new Map<string, string>()
const mostPrefixes = 1_000

function prefixOf(address: string): string {
  const bare = withoutPort(address)
  if (!ipaddr.isValid(bare)) return bare.slice(0, 64)
  const parsed = ipaddr.process(bare)
  const text = parsed.toNormalizedString()
  return parsed.kind() === 'ipv4'
    ? `${ipaddr.IPv4.networkAddressFromCIDR(`${text}/24`).toString()}/24`
    : `${ipaddr.IPv6.networkAddressFromCIDR(`${text}/48`).toString()}/48`
}

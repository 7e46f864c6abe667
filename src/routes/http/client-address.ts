import { isIPv4, isIPv6 } from 'node:net'
import ipaddr from 'ipaddr.js'

/**
 * What counts as one client: an IPv4 address, or an IPv6 network of 64 bits, of which a client can use every address.
 * @param address as a proxy wrote it: some add a port, and brackets (RFC 7239, section 6), which are no part of it. What is
 * no address (`unknown`, `_hidden`) stands for itself.
 */
export function clientNetwork(address: string): string {
  const bare = withoutPort(address)
  if (!ipaddr.isValid(bare)) return bare.toLowerCase()
  // An IPv4 address inside an IPv6 one is the IPv4 address.
  const parsed = ipaddr.process(bare)
  if (parsed.kind() === 'ipv4') return parsed.toString()
  return ipaddr.IPv6.networkAddressFromCIDR(`${parsed.toNormalizedString()}/64`).toString()
}

function withoutPort(address: string): string {
  const text = /^"?(.*?)"?$/.exec(address.trim())![1]!
  const bracketed = /^\[([^\]]*)\](?::\S*)?$/.exec(text)?.[1]
  if (bracketed !== undefined) return bracketed
  if (isIPv4(text) || isIPv6(text)) return text
  return /^([^:]+):[^:]*$/.exec(text)?.[1] ?? text
}

/** The network of an address, as it may be logged: an IPv4 address is cut to 24 bits, an IPv6 address to 48. */
export function clientPrefix(address: string): string {
  const bare = withoutPort(address)
  if (!ipaddr.isValid(bare)) return bare.slice(0, 64)
  const parsed = ipaddr.process(bare)
  const text = parsed.toNormalizedString()
  return parsed.kind() === 'ipv4'
    ? `${ipaddr.IPv4.networkAddressFromCIDR(`${text}/24`).toString()}/24`
    : `${ipaddr.IPv6.networkAddressFromCIDR(`${text}/48`).toString()}/48`
}

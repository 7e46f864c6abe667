import ipaddr from 'ipaddr.js'
import { clientAddress, clientNetwork } from '../http/client-address.ts'

/** An address of a client, and what is known of it. */
export interface KnownAddress<Known> {
  /** See {@link clientNetwork}. */
  readonly network: string
  /** It is in a network of `RATE_LIMIT_ALLOW`. */
  readonly isAllowed: boolean
  readonly known: Known
}

/**
 * What is known of addresses, by the text of each. To parse an address takes longer than all other work on a limit, and clients send many
 * requests. At most {@link mostKnown} addresses are remembered. Then all are forgotten, and known again when they come.
 */
export class KnownAddresses<Known> {
  readonly #allowed: readonly Network[]
  readonly #learn: (network: string, isAllowed: boolean) => Known
  readonly #addresses = new Map<string | undefined, KnownAddress<Known>>()

  /**
   * @param allowed addresses and networks that no limit by address holds for.
   * @param learn finds out what is known of an address.
   */
  constructor(allowed: readonly string[], learn: (network: string, isAllowed: boolean) => Known) {
    this.#allowed = allowed.map(networkOf)
    this.#learn = learn
  }

  /** @param address undefined: a connection that its client reset before it was taken. Connections of this kind are one address. */
  get(address: string | undefined): KnownAddress<Known> {
    const found = this.#addresses.get(address)
    if (found !== undefined) return found
    const network = clientNetwork(address)
    const isAllowed = this.#isAllowed(clientAddress(address))
    const learned = { network, isAllowed, known: this.#learn(network, isAllowed) }
    if (this.#addresses.size >= mostKnown) this.#addresses.clear()
    this.#addresses.set(address, learned)
    return learned
  }

  #isAllowed(text: string | null): boolean {
    if (this.#allowed.length === 0 || text === null) return false
    const address = ipaddr.parse(text)
    return this.#allowed.some(
      ([first, bits]) => address.kind() === first.kind() && address.match(first, bits),
    )
  }
}

type Network = readonly [address: ipaddr.IPv4 | ipaddr.IPv6, bits: number]

function networkOf(text: string): Network {
  if (text.includes('/')) {
    const [first, bits] = ipaddr.parseCIDR(text)
    // IPv4 addresses that are mapped into IPv6 ones are seen as IPv4 addresses.
    return first instanceof ipaddr.IPv6 && first.isIPv4MappedAddress() && bits >= mappedBits
      ? [first.toIPv4Address(), bits - mappedBits]
      : [first, bits]
  }
  const address = ipaddr.process(text)
  return [address, address.kind() === 'ipv4' ? 32 : 128]
}

/** What an IPv4 address has in front of it where it is mapped into an IPv6 one. */
const mappedBits = 96
const mostKnown = 10_000

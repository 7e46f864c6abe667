import { requestVersions, type RequestName } from './requests.ts'

/** The versions of each request that a broker serves, by API key, as its answer to ApiVersions has them (KIP-35). */
export type ServedVersions = ReadonlyMap<number, { readonly min: number; readonly max: number }>

/**
 * What a broker does not serve of what is needed, as an operator reads it: `host:9093 serves ListOffsets 0 to 2, Chute
 * needs 4`. Null: it serves all of it.
 */
export function lackingOf(
  address: string,
  served: ServedVersions,
  needed: readonly RequestName[],
): string | null {
  const lacking: string[] = []
  for (const name of needed) {
    const { apiKey, apiVersion } = requestVersions[name]
    const range = served.get(apiKey)
    if (range === undefined) lacking.push(`${address} does not serve ${name}, Chute needs ${apiVersion}`)
    else if (apiVersion < range.min || apiVersion > range.max)
      lacking.push(`${address} serves ${name} ${range.min} to ${range.max}, Chute needs ${apiVersion}`)
  }
  return lacking.length === 0 ? null : lacking.join('; ')
}

/** A broker was reached and does not serve what is needed of it. */
export class UnservedError extends Error {}

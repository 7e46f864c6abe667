import type { ClaimListener, DedupeKey, DedupeStore, Found } from '../../src/dedupe/dedupe-store.ts'

/** A claim that a test made, and its end. */
export interface TestClaim {
  readonly found: readonly Found[]
  /** Keeps those of its keys that are given, for a time; or all that were new. */
  keep(forMs?: number, keys?: readonly DedupeKey[]): void
  release(keys?: readonly DedupeKey[]): void
}

/** Claims keys of a store. It fails as the claim does. */
export async function claimOf(store: DedupeStore, ...keys: DedupeKey[]): Promise<TestClaim> {
  return await claimBeside(store, keys, [])
}

/** Claims keys of a store, and asks for others. */
export async function claimBeside(
  store: DedupeStore,
  keys: readonly DedupeKey[],
  asked: readonly DedupeKey[],
): Promise<TestClaim> {
  return await new Promise((resolve, reject) => {
    const done: ClaimListener = (error, found, claim) => {
      if (error !== null) return reject(error)
      const ours = keys.filter((_, nth) => found[nth] === 'new')
      resolve({
        found,
        keep: (forMs = 60_000, some = ours) => store.keep(claim, some, performance.now() + forMs),
        release: (some = ours) => store.release(claim, some),
      })
    }
    store.claim(keys, done, asked)
  })
}

/** What each key is. */
export async function findKeys(store: DedupeStore, ...keys: DedupeKey[]): Promise<readonly Found[]> {
  return (await claimOf(store, ...keys)).found
}

/** A key, with a fingerprint or with none. */
export function dedupeKey(name: string, fingerprint = ''): DedupeKey {
  return { name, fingerprint }
}

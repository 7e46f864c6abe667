/**
 * What `chute doctor` found at one place. `ok`: as it should be. `warning`: works, and will not always. `failure`: does not work. `skipped`: could
 * not be looked at, because of a failure before it.
 */
export interface Diagnosis {
  /** What was looked at: `connect kafka-0:9092`, `topic orders`. */
  readonly name: string
  readonly state: 'ok' | 'warning' | 'failure' | 'skipped'
  /** What was found. */
  readonly detail: string
  /** What would be right; null where nothing is wrong, or where the detail says it. */
  readonly remedy: string | null
}

/** Something is as it should be. */
export function fine(name: string, detail: string): Diagnosis {
  return { name, state: 'ok', detail, remedy: null }
}

/** Something works, and will not always. */
export function warning(name: string, detail: string, remedy: string | null): Diagnosis {
  return { name, state: 'warning', detail, remedy }
}

/** Something does not work. */
export function failure(name: string, detail: string, remedy: string | null): Diagnosis {
  return { name, state: 'failure', detail, remedy }
}

/** Something could not be looked at. */
export function skipped(name: string, detail: string): Diagnosis {
  return { name, state: 'skipped', detail, remedy: null }
}

/** Waits for a look, and no longer than `limitMs`. @throws Error as the look does, or when it takes longer. Then it goes on unheard. */
export async function within<Found>(limitMs: number, look: Promise<Found>): Promise<Found> {
  let timer: NodeJS.Timeout | undefined
  const limit = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${limitMs} ms`)), limitMs)
  })
  try {
    return await Promise.race([look, limit])
  } finally {
    clearTimeout(timer)
  }
}

/** Bytes for people. */
export function sizeOf(bytes: number): string {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB']
  let [size, unit] = [bytes, 0]
  for (; size >= 1_024 && unit < units.length - 1; unit++) size /= 1_024
  return `${Number(size.toPrecision(3))} ${units[unit]}`
}

/**
 * Finds what was probably meant by a name that is not known: `lingerMs` for `linger.ms`, `KAFKA_BROKER` for
 * `KAFKA_BROKERS`. Case, dots, dashes and underscores do not count; up to two wrong letters are forgiven.
 * @returns null if nothing is near.
 */
export function nearestName(unknown: string, known: readonly string[]): string | null {
  const wanted = lettersOf(unknown)
  let nearest: string | null = null
  let fewestEdits = Math.min(2, Math.floor(wanted.length / 3))
  for (const name of known) {
    const edits = editDistance(wanted, lettersOf(name))
    if (edits > fewestEdits || (edits === fewestEdits && nearest !== null)) continue
    nearest = name
    fewestEdits = edits
  }
  return nearest
}

/** As {@link nearestName}, and also finds `max.in.flight.requests.per.connection` for `max.in.flight`. */
export function nearestKey(unknown: string, known: readonly string[]): string | null {
  const wanted = lettersOf(unknown)
  const isPartOf = (name: string) => lettersOf(name).startsWith(wanted) || wanted.startsWith(lettersOf(name))
  return nearestName(unknown, known) ?? (wanted.length < 4 ? null : (known.find(isPartOf) ?? null))
}

function lettersOf(name: string): string {
  return name.toLowerCase().replaceAll(/[^a-z0-9]/g, '')
}

/** Levenshtein's distance: the fewest letters to add, leave out or change. */
function editDistance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, index) => index)
  for (let i = 1; i <= from.length; i++) {
    const next = [i]
    for (let j = 1; j <= to.length; j++) {
      const change = (row[j - 1] ?? 0) + (from[i - 1] === to[j - 1] ? 0 : 1)
      next.push(Math.min(change, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1))
    }
    row = next
  }
  return row[to.length] ?? 0
}

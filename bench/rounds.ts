/** The middle of some values; the mean of the two middle ones where their number is even, NaN where there are none. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  if (sorted.length % 2 === 1) return sorted[middle]!
  return ((sorted[middle - 1] ?? NaN) + (sorted[middle] ?? NaN)) / 2
}

/** One thing that is measured against others. */
export interface Contender<Round> {
  readonly name: string
  readonly measure: () => Promise<Round>
}

/**
 * Measures in turn, A B A B, so that a machine that slows down slows all of them: of each contender its rounds.
 * @param tell makes a progress line of a round.
 * @param uncounted how many rounds come first that are for the compilers and are not counted.
 */
export async function inTurn<Round>(
  contenders: readonly Contender<Round>[],
  rounds: number,
  tell: (round: Round) => string,
  uncounted = 1,
): Promise<Map<string, Round[]>> {
  const all = new Map<string, Round[]>(contenders.map(({ name }) => [name, []]))
  for (let round = 1 - uncounted; round <= rounds; round++) {
    for (const { name, measure } of contenders) {
      const result = await measure()
      if (round < 1) continue
      all.get(name)!.push(result)
      say(`${name}, round ${round} of ${rounds}: ${tell(result)}`)
    }
  }
  return all
}

/** The median of the ratios, round by round. */
export function ratioOf<Round>(
  rounds: readonly Round[],
  base: readonly Round[],
  value: (round: Round) => number,
): number {
  return median(rounds.map((round, index) => value(round) / value(base[index]!)))
}

/** The median over processes of the median of each. */
export function medianOf<Round>(
  processes: readonly (readonly Round[])[],
  value: (round: Round) => number,
): number {
  return median(processes.map((rounds) => median(rounds.map(value))))
}

/** The median over pairs of processes of the median of the ratios of each, round by round. */
export function medianRatioOf<Round>(
  processes: readonly (readonly Round[])[],
  base: readonly (readonly Round[])[],
  value: (round: Round) => number,
): number {
  return median(processes.map((rounds, nth) => ratioOf(rounds, base[nth]!, value)))
}

/** A progress line. */
export function say(text: string): void {
  process.stderr.write(`${text}\n`)
}

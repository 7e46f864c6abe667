/** A part of what is done for a request of many events. Returns what comes next, or nothing. */
export type Step = () => Step | undefined

/**
 * Goes over many, a part a step.
 * @param size how many are in a part.
 * @param act does what is to be done with those at [from, to).
 * @param next follows the last part, in a step of its own.
 */
export function inParts(
  count: number,
  size: number,
  act: (from: number, to: number) => void,
  next: Step,
): Step {
  const actFrom = (from: number): Step => {
    const to = Math.min(from + size, count)
    act(from, to)
    return to < count ? () => actFrom(to) : next
  }
  return () => actFrom(0)
}

/** Does the same with each, a step each. @param next follows the last one, in a step of its own. */
export function eachInTurn<Each>(all: readonly Each[], act: (each: Each) => void, next: Step): Step {
  const actFrom = (nth: number): Step | undefined => {
    if (nth === all.length) return next()
    act(all[nth]!)
    return () => actFrom(nth + 1)
  }
  return () => actFrom(0)
}

import type { Claim } from '../../dedupe/deduplicator.ts'
import { eachInTurn, type Step } from '../../dedupe/steps.ts'
import type { LargeCommit } from '../../kafka/producer/producer.ts'

/** From so many events on they are claimed, appended and kept a part a turn. A part of as many takes about a millisecond. */
export const manyEvents = 1_000

/** Keeps the keys of a request, those of many events a part a step. @param claim null: there are none. */
export function keepingParts(claim: Claim | null, next: Step): Step {
  return eachInTurn(partsOf(claim), (part) => part.keep(), next)
}

/** Writes the keys of a request to its commit, those of many events a part a step. @param claim null: there are none. */
export function notingParts(claim: Claim | null, commit: LargeCommit, next: Step): Step {
  return eachInTurn(partsOf(claim), (part) => part.note(commit), next)
}

/** Releases the keys of a request of many events, a part a step. @param except see `Claim.release`. */
export function releasingParts({ parts }: Claim, next: Step, except?: ReadonlySet<string>): Step {
  return eachInTurn(parts, (part) => part.release(except), next)
}

function partsOf(claim: Claim | null): readonly Claim[] {
  if (claim === null) return []
  return claim.parts.length === 0 ? [claim] : claim.parts
}

/** A step that nothing follows. */
export function lastStep(step: () => void): Step {
  return () => {
    step()
    return undefined
  }
}

import { expect } from 'vitest'
import { broken, rounded, type Bar } from './bar.ts'
import { isFull } from '../../support/forms.ts'
import { keep, type Figures, type Result } from './results.ts'

/** Holds what a fault did against its bars. In the full form the figures are kept too, also those that pass a bar; the short one prints them. */
export function judge(
  name: string,
  figures: Figures,
  bars: readonly Bar[],
  timeline?: Result['timeline'],
): void {
  if (isFull) keep({ name, figures, bars, ...(timeline !== undefined && { timeline }) })
  else process.stderr.write(`${name}: ${JSON.stringify(figures, asPeopleRead)}\n`)
  expect(broken(bars), `${name}: ${JSON.stringify(figures)}`).toEqual([])
}

function asPeopleRead(_: string, value: unknown): unknown {
  return typeof value === 'number' ? rounded(value) : value
}

import { expect } from 'vitest'
import { broken, type Bar } from './bar.ts'
import { isFull } from './form.ts'
import { keep, type Figures } from './results.ts'

/** Holds what a fault did against its bars. In the full form the figures are kept too, also those that pass a bar. */
export function judge(name: string, figures: Figures, bars: readonly Bar[]): void {
  if (isFull) keep({ name, figures, bars })
  expect(broken(bars), `${name}: ${JSON.stringify(figures)}`).toEqual([])
}

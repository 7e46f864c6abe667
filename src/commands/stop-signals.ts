/**
 * The first and the second SIGTERM or SIGINT from now on. One listener serves both: between two listeners a signal would
 * meet Node's own way, which ends the process without a word.
 */
export function stopSignals(): { first: Promise<NodeJS.Signals>; second: Promise<NodeJS.Signals> } {
  const waiting: ((signal: NodeJS.Signals) => void)[] = []
  const next = async (): Promise<NodeJS.Signals> => await new Promise((resolve) => waiting.push(resolve))
  const signals = { first: next(), second: next() }
  const onSignal = (signal: NodeJS.Signals): void => waiting.shift()?.(signal)
  process.on('SIGTERM', onSignal).on('SIGINT', onSignal)
  return signals
}

/** One thing that is wrong with the configuration, told so that it can be put right without reading the source. */
export interface ConfigProblem {
  /** The environment variable, or the key in the file: `streams.metrics-realtime.producer.linger.ms`. */
  readonly path: string
  /** What is wrong; reads on from the path: `is "5ms", not a plain number`. */
  readonly problem: string
  /** What would be right. */
  readonly remedy: string
}

/** The configuration cannot be used. Carries every problem that was found, since a start that fails once a fault is a long one. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'
  readonly problems: readonly ConfigProblem[]

  constructor(problems: readonly ConfigProblem[]) {
    const count = problems.length === 1 ? 'a problem' : `${problems.length} problems`
    super([`The configuration has ${count}.`, ...problems.map(describeProblem)].join('\n'))
    this.problems = problems
  }
}

function describeProblem({ path, problem, remedy }: ConfigProblem): string {
  return `\n  ${path} ${problem}\n    ${remedy.replaceAll('\n', '\n    ')}`
}

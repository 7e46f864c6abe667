import type { Reporter, TestCase } from 'vitest/node'

declare module 'vitest' {
  interface TaskMeta {
    /** The test failed at its first try and passed at a later one: why the first try failed. */
    passedAtSecondTry?: string
  }
}

/**
 * Names each test that needed a second try, and why its first try failed, behind vitest's own summary. A test that is
 * tried again and passes counts as passed, so nothing else shows it. The JSON report has the same in `meta`.
 */
export class SecondTries implements Reporter {
  readonly #lines: string[] = []

  onTestRunStart(): void {
    this.#lines.length = 0
  }

  onTestCaseResult(test: TestCase): void {
    if (test.diagnostic()?.flaky !== true) return
    const [reason = 'no error was kept'] = (test.result().errors ?? []).map(reasonOf)
    test.meta().passedAtSecondTry = reason
    const [line] = reason.split('\n')
    this.#lines.push(`${test.module.relativeModuleId}: “${test.fullName}”: ${line}`)
  }

  onTestRunEnd(): void {
    if (this.#lines.length === 0) return
    const head = `Tests that failed once and passed at their second try: ${this.#lines.length}`
    process.stdout.write(`\n${[head, ...this.#lines].join('\n  ')}\n`)
  }
}

/** A failed property tells its case, and why in its cause. */
function reasonOf({ message, cause }: { message: string; cause?: unknown }): string {
  const { message: why } = (cause ?? {}) as { message?: string }
  return why === undefined ? message : `${why}; ${message}`
}

import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { stringify } from 'yaml'
import { freePorts } from './free-ports.ts'

/** A real Prometheus with the project's rules, whose minutes pass as seconds and whose hours are 20 s. */
export interface TestPrometheus {
  /**
   * Waits until each of these alerts has fired.
   * @throws Error with those that did not in a minute.
   */
  fired(...alerts: string[]): Promise<void>
  /** Every alert that has fired since the start. */
  everFired(): Promise<Set<string>>
  /** Waits until an expression has a sample. */
  untilSome(expression: string): Promise<void>
  stop(): Promise<void>
}

/** Prometheus is installed (Debian's package `prometheus`). */
export const hasPrometheus = spawnSync('promtool', ['--version']).error === undefined

/** The folder with the rules that operators are given. */
export const rulesFolder = 'deploy/prometheus/rules'

/**
 * Starts Prometheus on a free port; returns when it answers.
 * @param targets `host:port` to scrape, by job.
 */
export async function startPrometheus(targets: Readonly<Record<string, string>>): Promise<TestPrometheus> {
  const folder = mkdtempSync(join(tmpdir(), 'chute-prometheus-'))
  mkdirSync(join(folder, 'rules'))
  for (const file of readdirSync(rulesFolder)) {
    writeFileSync(join(folder, 'rules', file), speedUp(readFileSync(join(rulesFolder, file), 'utf8')))
  }
  const configuration = {
    // A scrape that is late is a target that is down: on a busy machine a gateway needs some time to answer.
    global: { scrape_interval: '1s', scrape_timeout: '1s', evaluation_interval: '500ms' },
    rule_files: ['rules/*.yml'],
    scrape_configs: Object.entries(targets).map(([job, target]) => ({
      job_name: job,
      static_configs: [{ targets: [target] }],
    })),
  }
  writeFileSync(join(folder, 'prometheus.yml'), stringify(configuration))
  const [port] = await freePorts(1)
  const child = spawn(
    'prometheus',
    [
      `--config.file=${join(folder, 'prometheus.yml')}`,
      `--storage.tsdb.path=${join(folder, 'data')}`,
      `--web.listen-address=127.0.0.1:${port}`,
      '--log.level=error',
    ],
    { stdio: ['ignore', 'inherit', 'inherit'] },
  )
  const exit = once(child, 'exit')
  const url = `http://127.0.0.1:${port}`
  while (
    !(await fetch(`${url}/-/ready`).then(
      ({ ok }) => ok,
      () => false,
    ))
  ) {
    if (child.exitCode !== null) throw new Error(`Prometheus ended with ${child.exitCode}`)
    await pause(50)
  }
  const ask = async (expression: string): Promise<readonly QueryResult[]> => {
    const reply = await fetch(`${url}/api/v1/query?query=${encodeURIComponent(expression)}`)
    const { data } = (await reply.json()) as { data: { result: readonly QueryResult[] } }
    return data.result
  }
  const everFired = async (): Promise<Set<string>> => {
    const found = await ask('group by (alertname) (max_over_time(ALERTS{alertstate="firing"}[1h]))')
    return new Set(found.map(({ metric }) => metric['alertname']!))
  }
  return {
    everFired,
    async fired(...alerts) {
      const deadlineMs = performance.now() + firesWithinMs
      for (;;) {
        const known = await everFired()
        const silent = alerts.filter((alert) => !known.has(alert))
        if (silent.length === 0) return
        if (performance.now() > deadlineMs) throw new Error(`did not fire: ${silent.join(', ')}`)
        await pause(100)
      }
    },
    async untilSome(expression) {
      while ((await ask(expression)).length === 0) await pause(100)
    },
    async stop() {
      child.kill('SIGTERM')
      await exit
      rmSync(folder, { recursive: true })
    },
  }
}

/** An hour of the rules, here. */
export const hourMs = 20_000

const firesWithinMs = 60_000

/** Shortens the durations of a file of rules (`5m`, `offset 1h`, an age in seconds), but not those within names (`rate5m`). */
function speedUp(rules: string): string {
  return rules
    .replaceAll(/(_seconds > )(\d+)/g, (_, of: string, seconds: string) => `${of}${Number(seconds) / 60}`)
    .replaceAll(/\b(\d+)m\b/g, '$1s')
    .replaceAll(/\b(\d+)h\b/g, (_, hours: string) => `${Number(hours) * hourMs}ms`)
}

interface QueryResult {
  readonly metric: Readonly<Record<string, string>>
}

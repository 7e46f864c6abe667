import { pino, type Logger } from 'pino'
import type { Config } from '../config/config.ts'

/**
 * The log of a process: JSON lines on stdout, or on stderr where stdout has other uses. Written at once: a line that waits in a buffer is lost with the process, and
 * the last one matters most.
 * @param worker its number, where there are several; it stands in every line.
 */
export function createLogger(
  { logLevel }: Pick<Config, 'logLevel'>,
  worker: number | null = null,
  output: 'stdout' | 'stderr' = 'stdout',
): Logger {
  const logger = pino(
    {
      level: logLevel,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (level) => ({ level }) },
    },
    pino.destination({ dest: output === 'stdout' ? 1 : 2, sync: true }),
  )
  return worker === null ? logger : logger.child({ worker })
}

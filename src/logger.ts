/** Takes the messages of all parts of Chute to an operator. pino's loggers have this form. */
export interface Logger {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
  /** Whether messages of `debug` are wanted now. Left out: they are. */
  isLevelEnabled?(level: 'debug'): boolean
}

/** Drops all messages: for a caller that reports failures in another way. */
export const silentLogger: Logger = { debug() {}, info() {}, warn() {}, error() {} }

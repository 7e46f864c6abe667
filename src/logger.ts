/** Where a part of Chute says what an operator should know. pino's loggers fit. */
export interface Logger {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

/** Says nothing: for a caller that reports failures in another way. */
export const silentLogger: Logger = { debug() {}, info() {}, warn() {}, error() {} }

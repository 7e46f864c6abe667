import { hostname } from 'node:os'
import { pino, type LoggerOptions } from 'pino'
import type { Config } from '../config/config.ts'
import { version } from '../version.ts'

/**
 * What pino has to be told for each `LOG_FORMAT`. The formats have the same lines: only the names and places of the fields differ.
 *
 * `ecs`: the Elastic Common Schema, and what the schema has no name for in `chute`. `otel`: the fields of OpenTelemetry's log data model, and
 * what the semantic conventions have no name for as `chute.…`. So no field of Chute stands where the receiver expects another one.
 * @param worker the number of the worker, where there are several. It stands in every line.
 */
export function formatOptions(format: Config['logFormat'], worker: number | null): LoggerOptions {
  switch (format) {
    case 'pino':
      return {
        base: { pid: process.pid, hostname: hostname(), ...(worker !== null && { worker }) },
        timestamp: pino.stdTimeFunctions.isoTime,
        formatters: { level: (level) => ({ level }) },
      }
    case 'ecs':
      return {
        base: null,
        messageKey: 'message',
        timestamp: () => `,"@timestamp":"${new Date().toISOString()}"`,
        formatters: {
          level: (level) => ({ 'log.level': level }),
          log: (fields) => ({
            'ecs.version': '8.11.0',
            service: { name: 'chute', version },
            process: { pid: process.pid },
            host: { hostname: hostname() },
            ...ecsFields({ ...fields, ...(worker !== null && { worker }) }),
          }),
        },
      }
    case 'otel': {
      const resource = {
        'service.name': process.env['OTEL_SERVICE_NAME'] ?? 'chute',
        'service.version': version,
        'host.name': hostname(),
        'process.pid': process.pid,
        ...(worker !== null && { 'chute.worker': worker }),
      }
      return {
        base: null,
        messageKey: 'Body',
        // Nanoseconds, as text: a number of JSON has no room for them.
        timestamp: () => `,"Timestamp":"${Date.now()}000000"`,
        formatters: {
          level: (level) => ({ SeverityText: level.toUpperCase(), SeverityNumber: severityOf[level] ?? 0 }),
          log: (fields) => ({ ...otelFields(fields), Resource: resource }),
        },
      }
    }
  }
}

type Fields = Readonly<Record<string, unknown>>

/** https://www.elastic.co/guide/en/ecs/current/ecs-field-reference.html */
function ecsFields({ err, client, requestId, traceId, spanId, ...others }: Fields): Fields {
  return {
    ...(err instanceof Error && {
      error: { type: err.name, message: err.message, stack_trace: err.stack },
    }),
    ...(client !== undefined && { client: { address: client } }),
    ...(requestId !== undefined && { http: { request: { id: requestId } } }),
    ...(traceId !== undefined && { trace: { id: traceId }, span: { id: spanId } }),
    ...(Object.keys(others).length > 0 && { chute: others }),
  }
}

/** https://opentelemetry.io/docs/specs/otel/logs/data-model/ and https://opentelemetry.io/docs/specs/semconv/attributes-registry/ */
function otelFields({ err, client, traceId, spanId, ...others }: Fields): Fields {
  const attributes = {
    ...(err instanceof Error && {
      'exception.type': err.name,
      'exception.message': err.message,
      'exception.stacktrace': err.stack,
    }),
    ...(client !== undefined && { 'client.address': client }),
    ...Object.fromEntries(Object.entries(others).map(([name, value]) => [`chute.${name}`, value])),
  }
  return {
    ...(traceId !== undefined && { TraceId: traceId, SpanId: spanId }),
    Attributes: attributes,
  }
}

/** The first number of each range of severities. */
const severityOf: Readonly<Record<string, number>> = {
  trace: 1,
  debug: 5,
  info: 9,
  warn: 13,
  error: 17,
  fatal: 21,
}

import { trace } from '@opentelemetry/api'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http'
import { resourceFromAttributes } from '@opentelemetry/resources'
import { BasicTracerProvider, BatchSpanProcessor } from '@opentelemetry/sdk-trace-base'

// The exporter reads OTEL_EXPORTER_OTLP_ENDPOINT and its neighbours, and the provider OTEL_TRACES_SAMPLER.
trace.setGlobalTracerProvider(
  new BasicTracerProvider({
    resource: resourceFromAttributes({ 'service.name': process.env.OTEL_SERVICE_NAME ?? 'chute' }),
    spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter())],
  }),
)

import type { EventBatch } from '../../events/event-batch.ts'
import type { EdgeTelemetry, EdgeTransport } from '../../metrics/edge-telemetry.ts'

interface Books {
  readonly transport: EdgeTransport
  readonly telemetry: EdgeTelemetry
}

/** Books the events of a request that were accepted before, and are not written again. They count as accepted, too. */
export function bookDuplicates({ telemetry: { edge }, transport }: Books, batch: EventBatch): void {
  const duplicates = batch.duplicates.length
  if (duplicates === 0) return
  edge.accepted(transport, duplicates)
  edge.duplicates(transport, duplicates)
}

/** Books the events of a request that are rejected, each with its code. */
export function bookRejected({ telemetry: { edge }, transport }: Books, batch: EventBatch): void {
  if (batch.rejected === 0) return
  for (const [code, events] of batch.rejectedByCode) edge.rejected(transport, code, events)
}

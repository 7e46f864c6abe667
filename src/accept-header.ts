/** One entry of an `Accept` or `Accept-Encoding` header. All texts are in lower case. */
export interface AcceptedRange {
  /** The media type or the coding. */
  readonly name: string
  readonly parameters: readonly string[]
  /** The parameter `q`: 1 if it is missing, and 0 if it is not a number from 0 to 1. */
  readonly quality: number
}

/**
 * The entries of an `Accept` or `Accept-Encoding` header, in their order (RFC 9110, section 12.4.2). `metrics/exposition.ts` and
 * `routes/http/text-reply.ts` read these headers, and neither may know the other.
 */
export function readAccept(header = ''): AcceptedRange[] {
  return header.split(',').map((range) => {
    const [name = '', ...parameters] = range.split(';').map((part) => part.trim().toLowerCase())
    return { name, parameters, quality: readQuality(parameters) }
  })
}

function readQuality(parameters: readonly string[]): number {
  const parameter = parameters.find((candidate) => candidate.startsWith('q='))
  if (parameter === undefined) return 1
  const quality = Number(parameter.slice('q='.length))
  return quality >= 0 && quality <= 1 ? quality : 0
}

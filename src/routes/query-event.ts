/**
 * Makes an event's JSON of the fields of a query or a form: `name`, `value` and whatever else. `value` becomes a number
 * and so does a `timestamp` in digits; `labels.x` becomes the entry `x` of `labels`; the rest stays text. Of a field
 * that is given twice the last counts. What is wrong with the event is for its schema to say.
 */
export function eventFromFields(fields: string): Buffer {
  const event = new Map<string, unknown>()
  const labels = new Map<string, string>()
  for (const [name, text] of new URLSearchParams(fields)) {
    if (name.startsWith('labels.')) labels.set(name.slice('labels.'.length), text)
    else if (name === 'value' || name === 'timestamp') event.set(name, numberOrText(text))
    else event.set(name, text)
  }
  if (labels.size > 0) event.set('labels', Object.fromEntries(labels))
  return Buffer.from(JSON.stringify(Object.fromEntries(event)))
}

/** A JSON number stays as it is written; `Number` alone would take '', ' 1', '0x1' and 'Infinity' too. */
function numberOrText(text: string): number | string {
  return /^-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?$/.test(text) ? Number(text) : text
}

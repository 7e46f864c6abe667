/** The page at /docs: lists what openapi.json has, sends what is filled in, shows the reply and the curl line. */

const contract = await (await fetch('/openapi.json')).json()
const base = document.querySelector('#base')
base.value = location.origin
document.querySelector('#about').textContent = contract.info.description

for (const [path, methods] of Object.entries(contract.paths)) {
  for (const [method, operation] of Object.entries(methods)) {
    document.querySelector('#operations').append(operationOf(method.toUpperCase(), path, operation))
  }
}
for (const row of problemRows()) document.querySelector('#problems').append(row)
// The rows came after the page, so the one that the address names was not there to be scrolled to.
if (location.hash.length > 1) document.getElementById(location.hash.slice(1))?.scrollIntoView()

function operationOf(method, path, operation) {
  const id = operation.operationId
  // A page cannot compress what it sends; curl can.
  const parameters = (operation.parameters ?? [])
    .map(resolve)
    .filter(({ name }) => name !== 'Content-Encoding')
  const inputs = parameters.map((parameter) => inputOf(id, parameter))
  const body = operation.requestBody === undefined ? null : bodyInputs(id, operation.requestBody)
  const curl = element('pre', {})
  const reply = element('pre', { hidden: true })
  reply.setAttribute('aria-live', 'polite')
  const button = element('button', { type: 'button', textContent: 'Send' })

  const request = () => requestOf(method, path, inputs, body)
  const showCurl = () => {
    curl.textContent = curlOf(request())
  }
  button.addEventListener('click', () => send(request(), reply))
  const details = element('details', {}, [
    element('summary', {}, [
      element('code', { textContent: `${method} ${path}` }),
      document.createTextNode(` ${operation.summary}`),
    ]),
    element('p', { textContent: operation.description }),
    ...inputs.flatMap(({ label, input }) => [label, input]),
    ...(body === null ? [] : [body.typeLabel, body.type, body.textLabel, body.text]),
    button,
    curl,
    reply,
  ])
  details.addEventListener('input', showCurl)
  details.addEventListener('toggle', showCurl)
  return details
}

function inputOf(operationId, parameter) {
  const id = `${operationId}-${parameter.name}`
  const input = element('input', {
    id,
    spellcheck: false,
    placeholder: parameter.schema.examples?.join(', ') ?? '',
  })
  if (parameter.in === 'path') input.value = parameter.schema.examples?.[0] ?? ''
  if (parameter.name === 'name') input.value = 'page.view'
  if (parameter.name === 'value') input.value = '1'
  const description = parameter.description.replaceAll('`', '')
  const label = element('label', { textContent: `${parameter.name}: ${description}`, htmlFor: id })
  return { parameter, input, label }
}

function bodyInputs(operationId, requestBody) {
  const example = contract.components.schemas.TelemetryEvent.example
  const type = element('select', { id: `${operationId}-type` })
  for (const name of Object.keys(requestBody.content)) type.append(element('option', { textContent: name }))
  const text = element('textarea', { id: `${operationId}-body`, rows: 5, spellcheck: false })
  text.value = JSON.stringify(example)
  return {
    type,
    text,
    typeLabel: element('label', { textContent: 'Content-Type', htmlFor: type.id }),
    textLabel: element('label', { textContent: `Body: ${requestBody.description}`, htmlFor: text.id }),
  }
}

function requestOf(method, path, inputs, body) {
  let filled = path
  const query = new URLSearchParams()
  const headers = {}
  for (const { parameter, input } of inputs) {
    const value = input.value
    if (parameter.in === 'path') filled = filled.replace(`{${parameter.name}}`, encodeURIComponent(value))
    else if (value === '') continue
    else if (parameter.in === 'query') query.append(parameter.name, value)
    else headers[parameter.name] = value
  }
  if (body !== null) headers['Content-Type'] = body.type.value
  const search = query.size === 0 ? '' : `?${query}`
  return {
    method,
    url: base.value.replace(/\/$/, '') + filled + search,
    headers,
    body: body?.text.value ?? null,
  }
}

function curlOf({ method, url, headers, body }) {
  const parts = ['curl -i']
  if (method !== 'GET' && method !== 'POST') parts.push(`-X ${method}`)
  for (const [name, value] of Object.entries(headers)) parts.push(`-H ${quoted(`${name}: ${value}`)}`)
  if (body !== null) parts.push(`--data-binary ${quoted(body)}`)
  parts.push(quoted(url))
  return parts.join(' ')
}

/** For a POSIX shell, which reads everything between single quotes as it is. */
function quoted(text) {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`
}

async function send({ method, url, headers, body }, output) {
  output.hidden = false
  output.textContent = '…'
  try {
    const startedAtMs = performance.now()
    const response = await fetch(url, { method, headers, body })
    const text = await response.text()
    const durationMs = Math.round(performance.now() - startedAtMs)
    const head = [...response.headers].map(([name, value]) => `${name}: ${value}`).join('\n')
    output.textContent = `${response.status} in ${durationMs} ms\n${head}\n\n${pretty(text)}`
  } catch (error) {
    output.textContent = `No reply that this page may read: ${error.message}. Is ${location.origin} in CORS_ORIGINS?`
  }
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2)
  } catch {
    return text
  }
}

function problemRows() {
  return Object.entries(contract['x-problems']).map(([code, { status, title }]) =>
    element('tr', { id: code }, [
      element('td', { textContent: status }),
      element('td', {}, [element('code', { textContent: code })]),
      element('td', { textContent: title }),
    ]),
  )
}

function resolve(node) {
  if (node.$ref === undefined) return node
  return node.$ref
    .slice(2)
    .split('/')
    .reduce((at, step) => at[step], contract)
}

function element(name, properties, children = []) {
  const node = Object.assign(document.createElement(name), properties)
  node.append(...children)
  return node
}

/**
 * The page at /docs. Swagger UI (`SwaggerUIBundle`, the script in front of this one) shows openapi.json and sends what is
 * filled in; this script lists the problems.
 */

const contract = await (await fetch('/openapi.json')).json()
// With ADMIN_PORT the gateway to try is not where the page is, so the address can be changed.
contract.servers = [{ url: '{gateway}', variables: { gateway: { default: location.origin } } }]

// Swagger UI fills in `example`; the contract has `examples`, as JSON Schema 2020-12 names them.
const stream = contract.components.parameters.stream
stream.example = stream.schema.examples[0]
for (const parameter of contract.paths['/v1/beacon/{stream}.gif'].get.parameters) {
  const example = { name: 'page.view', value: 1 }[parameter.name]
  if (example !== undefined) parameter.example = example
}

const problems = document.querySelector('#problems tbody')
for (const [code, { status, title }] of Object.entries(contract['x-problems'])) {
  const row = problems.insertRow()
  row.id = code
  const name = document.createElement('code')
  name.append(code)
  for (const cell of [status, name, title]) row.insertCell().append(cell)
}

const dark = matchMedia('(prefers-color-scheme: dark)')
const followScheme = () => document.documentElement.classList.toggle('dark-mode', dark.matches)
dark.addEventListener('change', followScheme)
followScheme()

globalThis.SwaggerUIBundle({
  spec: contract,
  dom_id: '#contract',
  tryItOutEnabled: true,
  // No model is shown but the one of an operation that is open.
  defaultModelsExpandDepth: -1,
  // The validator is a service of others.
  validatorUrl: null,
  // The type of a problem names its row (src/routes/problem.ts), which was not there when the browser looked for it.
  onComplete: () => {
    if (location.hash !== '') location.replace(location.hash)
  },
})

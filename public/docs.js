/**
 * The page at /docs. Swagger UI (`SwaggerUIBundle`, the script in front of this one) shows openapi.json, and sends the requests that a reader
 * fills in. This script lists the problems.
 */

const contract = await (await fetch('/openapi.json')).json()
// With ADMIN_PORT the routes for events are at another address than the page, so the address can be changed.
contract.servers = [{ url: '{gateway}', variables: { gateway: { default: location.origin } } }]

// Swagger UI reads `example`. The contract has `examples`, as JSON Schema 2020-12 has it.
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
  // The list of all models is hidden. An operation shows its own model.
  defaultModelsExpandDepth: -1,
  // The validator would be a service of a third party.
  validatorUrl: null,
  // The type of a problem is the address of its row (src/routes/http/problem.ts). The row did not exist yet when the browser looked for it.
  onComplete: () => {
    if (location.hash !== '') location.replace(location.hash)
  },
})

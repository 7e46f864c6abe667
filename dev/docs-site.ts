import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { pageFor, sidebarOf, sitePathOf } from './docs-pages.ts'

/**
 * `npm run docs:build`: makes the docs site in dist-docs/ of the pages of the repository, with VitePress. Its packages are in site/, apart from
 * those of Chute. `DOCS_BASE` is the path that the site will have on its host, and `DOCS_SOURCE_URL` where the other files of the repository can
 * be seen. A link to a page that is not there fails the build.
 */
const root = fileURLToPath(new URL('../', import.meta.url))
const site = `${root}site/`
const staged = `${site}pages/`

const names = [
  'README.md',
  'DESIGN.md',
  'CONTRIBUTING.md',
  'SECURITY.md',
  'CHANGELOG.md',
  ...readdirSync(`${root}docs`).flatMap((file) => (file.endsWith('.md') ? [`docs/${file}`] : [])),
]
const pages = new Map(names.map((name) => [name, readFileSync(root + name, 'utf8')]))
const sourceUrl = process.env['DOCS_SOURCE_URL']?.replace(/\/$/, '') ?? null

rmSync(staged, { recursive: true, force: true })
mkdirSync(staged)
for (const [name, text] of pages)
  writeFileSync(staged + sitePathOf(name), pageFor(name, text, { names: new Set(names), sourceUrl }))
cpSync(`${root}docs/plots`, `${staged}plots`, { recursive: true })
writeFileSync(`${site}sidebar.json`, JSON.stringify(sidebarOf(pages)))
if (!process.argv.includes('--installed'))
  execFileSync('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund'], { cwd: site, stdio: 'inherit' })
execFileSync('npm', ['run', '--silent', 'build'], { cwd: site, stdio: 'inherit' })

import { readFileSync } from 'node:fs'
import { defineConfig } from 'vitepress'
import { anchorOf } from '../../dev/docs-pages.ts'

/** The docs site. `dev/docs-site.ts` puts the pages of the repository into `pages/`, and then runs VitePress. */
const sidebar = JSON.parse(readFileSync(new URL('../sidebar.json', import.meta.url), 'utf8')) as never

export default defineConfig({
  title: 'Chute',
  description:
    'HTTP ingestion gateway: REST and beacon calls in, at-most-once Kafka writes out, and the truth about what arrived',
  srcDir: 'pages',
  outDir: '../dist-docs',
  base: (process.env['DOCS_BASE'] ?? '/') as `/${string}`,
  // A link to a page that is not there fails the build.
  ignoreDeadLinks: false,
  // The pages are written for GitHub, where a tag that is no HTML is text.
  markdown: { anchor: { slugify: anchorOf }, toc: { slugify: anchorOf }, html: false },
  themeConfig: { sidebar, outline: [2, 3], search: { provider: 'local' } },
})

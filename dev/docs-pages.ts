import { posix } from 'node:path'

/** Where a page of the repository is on the docs site. */
export function sitePathOf(name: string): string {
  if (name === 'README.md') return 'index.md'
  if (name === 'docs/README.md') return 'guides.md'
  // Beside docs/security.md, on a disk that knows no case.
  if (name === 'SECURITY.md') return 'report-a-hole.md'
  return name.replace(/^docs\//, '')
}

/** A heading's anchor as GitHub makes it, which is what the pages link to: lower case, blanks as dashes, no other punctuation. */
export function anchorOf(heading: string): string {
  return heading
    .trim()
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N}_ -]/gu, '')
    .replaceAll(' ', '-')
}

/** Makes a page of the site of a page of the repository: links lead to where their targets are on the site. Code stays as it is. */
export function pageFor(
  name: string,
  text: string,
  { names, sourceUrl }: { names: ReadonlySet<string>; sourceUrl: string | null },
): string {
  const link = (whole: string, image: string, label: string, target: string): string => {
    if (/^[a-z]+:|^#/.test(target)) return whole
    const [file = '', anchor] = target.split('#')
    const path = posix.join(posix.dirname(name), file)
    const hash = anchor === undefined ? '' : `#${anchor}`
    if (names.has(path)) return `[${label}](./${sitePathOf(path)}${hash})`
    if (path.startsWith('docs/plots/')) return `${image}[${label}](./${path.slice('docs/'.length)})`
    return sourceUrl === null ? label : `${image}[${label}](${sourceUrl}/${path}${hash})`
  }
  const body = outsideOfCode(text, (part) =>
    part.replaceAll(/(!?)\[((?:[^\][]|\[[^\]]*\])*)\]\(([^)\s]+)\)/g, link),
  )
  // Vue would take {{ }} for its own.
  return `::: v-pre\n\n${body}\n\n:::\n`
}

/** Changes what is not in a fenced block. */
function outsideOfCode(text: string, change: (part: string) => string): string {
  return text
    .split(/(^ *```[^]*?^ *```$)/m)
    .map((part, nth) => (nth % 2 === 0 ? change(part) : part))
    .join('')
}

/** An entry of the site's sidebar. */
interface Entry {
  readonly text: string
  readonly link: string
}

/** All pages but the first, in the order in which docs/README.md lists them. A page that it does not list comes last. */
export function sidebarOf(pages: ReadonlyMap<string, string>): Entry[] {
  const [, list = ''] = (pages.get('docs/README.md') ?? '').split('\n## All pages\n')
  const listed = [...list.matchAll(/^\| \[[^\]]*\]\(([\w-]+\.md)\)/gm)].map(([, file]) => `docs/${file}`)
  const names = [...new Set(['docs/README.md', ...listed, ...pages.keys()])]
  return names.flatMap((name) => {
    const text = pages.get(name)
    if (text === undefined || name === 'README.md') return []
    const title = /^# (.*)$/m.exec(text)?.[1] ?? name
    return [{ text: title, link: `/${sitePathOf(name).replace(/\.md$/, '')}` }]
  })
}

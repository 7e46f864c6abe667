import { profileParts, type Flame } from '../cpu-profile.ts'
import { escapeText } from './svg.ts'

const width = 1_200
const rowHeight = 18
const top = 64
const colors = ['#a5c8ff', '#d8dee4', '#c8b6ff', '#ffd8a8', '#ffe8a3', '#b2f2bb', '#ffb3b3', '#e9ecef']

/** A flame graph as SVG: who called, above; whom, below; as wide as it took. The name of a narrow one is its tooltip. */
export function flameGraph(title: string, flames: readonly Flame[]): string {
  const height = top + (depthOf(flames) + 1) * rowHeight
  const legend = profileParts.map((part, nth) => {
    const x = 10 + nth * 148
    return `<rect x="${x}" y="34" width="12" height="12" fill="${colors[nth]}"/><text x="${x + 17}" y="44">${escapeText(part)}</text>`
  })
  const parts = [
    `<rect width="${width}" height="${height}" fill="#fff"/>`,
    `<text x="10" y="20" font-size="15">${escapeText(title)}</text>`,
    ...legend,
    ...rowsOf(flames, 0, 0),
  ]
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="11" fill="#24292f">\n${parts.join('\n')}\n</svg>\n`
}

function rowsOf(flames: readonly Flame[], from: number, depth: number): string[] {
  let at = from
  return flames.flatMap((flame) => {
    const x = at * width
    const wide = flame.share * width
    const y = top + depth * rowHeight
    const fits = Math.floor((wide - 6) / 6)
    const label = fits < 4 ? '' : escapeText(flame.name.slice(0, fits))
    const share = `${(flame.share * 100).toFixed(1)} %`
    const rows = [
      `<g><title>${escapeText(flame.name)}: ${share}</title><rect x="${x.toFixed(1)}" y="${y}" width="${Math.max(0.5, wide - 0.5).toFixed(1)}" height="${rowHeight - 1}" fill="${colors[profileParts.indexOf(flame.part)]}"/><text x="${(x + 3).toFixed(1)}" y="${y + 12}">${label}</text></g>`,
      ...rowsOf(flame.children, at, depth + 1),
    ]
    at += flame.share
    return rows
  })
}

function depthOf(flames: readonly Flame[]): number {
  return flames.reduce((deepest, { children }) => Math.max(deepest, 1 + depthOf(children)), 0)
}

/** A line of a chart; points by ascending `x`. */
export interface Series {
  readonly name: string
  readonly points: readonly { readonly x: number; readonly y: number }[]
}

/** What a chart shows. */
export interface Chart {
  readonly title: string
  readonly xLabel: string
  readonly yLabel: string
  readonly series: readonly Series[]
  /** Logarithmic; values must be above 0. */
  readonly yLog?: boolean
  /** Names for x = 0, 1, 2…, where it is no quantity. */
  readonly categories?: readonly string[]
}

const width = 720
const height = 380
const plot = { left: 70, right: 20, top: 40, bottom: 90 }
const colors = ['#1f6feb', '#d1242f', '#1a7f37', '#9a6700', '#8250df', '#57606a']

/** A line chart as SVG, readable on light and on dark pages. */
export function lineChart(chart: Chart): string {
  const points = chart.series.flatMap((series) => series.points)
  const xs = points.map(({ x }) => x)
  const [xLow, xHigh] = [Math.min(0, ...xs), Math.max(...xs)]
  const yTicks =
    chart.yLog === true ? logTicks(points.map(({ y }) => y)) : linearTicks(points.map(({ y }) => y))
  const [yLow, yHigh] = [yTicks[0]!, yTicks.at(-1)!]
  const scale = (value: number): number => (chart.yLog === true ? Math.log10(value) : value)
  const toX = (x: number): number =>
    plot.left + ((x - xLow) / (xHigh - xLow || 1)) * (width - plot.left - plot.right)
  const toY = (y: number): number =>
    height -
    plot.bottom -
    ((scale(y) - scale(yLow)) / (scale(yHigh) - scale(yLow) || 1)) * (height - plot.top - plot.bottom)
  const xTicks =
    chart.categories?.map((label, x) => ({ x, label })) ??
    linearTicks(xs).map((x) => ({ x, label: compact(x) }))
  const parts = [
    `<rect width="${width}" height="${height}" fill="#fff"/>`,
    text(width / 2, 22, chart.title, 'middle', 15),
    ...yTicks.map(
      (y) =>
        `<path d="M${plot.left} ${toY(y).toFixed(1)}H${width - plot.right}" stroke="#d0d7de"/>${text(plot.left - 8, toY(y) + 4, compact(y), 'end')}`,
    ),
    ...xTicks
      .filter(({ x }) => x <= xHigh)
      .map(({ x, label }) => text(toX(x), height - plot.bottom + 18, label, 'middle')),
    text((plot.left + width - plot.right) / 2, height - plot.bottom + 38, chart.xLabel, 'middle'),
    `<g transform="rotate(-90)">${text(-(plot.top + height - plot.bottom) / 2, 16, chart.yLabel, 'middle')}</g>`,
    ...chart.series.map((series, nth) => line(series, colors[nth % colors.length]!, toX, toY)),
    ...chart.series.map(({ name }, nth) => legend(name, nth)),
  ]
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12">\n${parts.join('\n')}\n</svg>\n`
}

function line(
  { points }: Series,
  color: string,
  toX: (x: number) => number,
  toY: (y: number) => number,
): string {
  const at = points.map(({ x, y }) => `${toX(x).toFixed(1)} ${toY(y).toFixed(1)}`)
  const dots = at.map((point) => `<circle r="3" transform="translate(${point})" fill="${color}"/>`)
  return `<path d="M${at.join('L')}" fill="none" stroke="${color}" stroke-width="2"/>${dots.join('')}`
}

function legend(name: string, nth: number): string {
  const x = plot.left + (nth % 3) * 215
  const y = height - 30 + Math.floor(nth / 3) * 18
  return `<rect x="${x}" y="${y - 9}" width="14" height="4" fill="${colors[nth % colors.length]}"/>${text(x + 20, y - 3, name, 'start')}`
}

function text(x: number, y: number, content: string, anchor: string, size = 12): string {
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" text-anchor="${anchor}" font-size="${size}" fill="#24292f">${escapeText(content)}</text>`
}

/** Text as it stands in XML. */
export function escapeText(content: string): string {
  return content.replaceAll('&', '&amp;').replaceAll('<', '&lt;')
}

/** From 0, in steps of 1, 2 or 5 times a power of ten. */
function linearTicks(values: readonly number[]): number[] {
  const high = Math.max(...values, 0) || 1
  const power = 10 ** Math.floor(Math.log10(high / 5))
  const step = power * ([1, 2, 5, 10].find((factor) => high / (power * factor) <= 6) ?? 10)
  return Array.from({ length: Math.ceil(high / step) + 1 }, (_, nth) => nth * step)
}

function logTicks(values: readonly number[]): number[] {
  const low = Math.floor(Math.log10(Math.min(...values)))
  const high = Math.ceil(Math.log10(Math.max(...values)))
  return Array.from({ length: Math.max(1, high - low) + 1 }, (_, nth) => 10 ** (low + nth))
}

function compact(value: number): string {
  return value >= 1_000 ? `${Number((value / 1_000).toPrecision(3))}k` : String(Number(value.toPrecision(3)))
}

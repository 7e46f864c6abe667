/** A table of Markdown: a column for each entry, by its name. */
export function table<Row>(
  rows: readonly Row[],
  columns: Readonly<Record<string, (row: Row) => string>>,
): string {
  const names = Object.keys(columns)
  const lines = rows.map((row) => names.map((name) => columns[name]!(row)))
  return [names, names.map(() => '---'), ...lines].map((cells) => `| ${cells.join(' | ')} |\n`).join('')
}

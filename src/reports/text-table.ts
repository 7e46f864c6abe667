/**
 * Lines of a table in plain text, one a row, the head first. The first column is flush left, and the others, which are numbers,
 * are flush right. The audit's report, the demo and the benchmarks print such tables.
 */
export function alignTable(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]!.length))) ?? []
  return rows.map((row) =>
    row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)))
      .join('  '),
  )
}

/**
 * Lines of a table in plain text, one a row, the head first. The first column is flush left. The others are flush right, since
 * they are numbers, unless `flush` says otherwise. The audit's report, `chute keys`, the demo and the benchmarks print such tables.
 */
export function alignTable(
  rows: readonly (readonly string[])[],
  flush: 'left' | 'right' = 'right',
): string[] {
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]!.length))) ?? []
  return rows.map((row) =>
    row
      .map((cell, column) =>
        column === 0 || flush === 'left' ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!),
      )
      .join('  ')
      .trimEnd(),
  )
}

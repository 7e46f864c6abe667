import { parse as parseYaml } from 'yaml'
import type { ConfigProblem } from './config.ts'
import { isMap } from './read-fields.ts'

/** Reads a text file. It throws the errors of `node:fs`. */
export type ReadFile = (path: string) => string

/** Why a file could not be read, in words. */
export function describeReadError(error: unknown): string {
  const { code } = error as NodeJS.ErrnoException
  switch (code) {
    case 'ENOENT':
      return 'there is no such file'
    case 'EACCES':
      return 'this process may not read it'
    case 'EISDIR':
      return 'it is a folder'
    default:
      return error instanceof Error ? error.message : String(error)
  }
}

/** The variables that name a file with a map, and what to do where there is no such file. */
const remedies = {
  CHUTE_CONFIG:
    'Name a YAML or JSON file with a map of streams, or leave CHUTE_CONFIG out for the two default streams.',
  CHUTE_KEYS_FILE: 'Name a YAML or JSON file with a map of keys; chute keys new prints its lines.',
} as const

/** Reads the file that a variable names. @returns null if it holds no map; `problems` then has the reason. */
export function readDocument(
  file: string,
  {
    readFile,
    problems,
    variable = 'CHUTE_CONFIG',
  }: { readFile: ReadFile; problems: ConfigProblem[]; variable?: keyof typeof remedies },
): Readonly<Record<string, unknown>> | null {
  const remedy = remedies[variable]
  let content: string
  try {
    content = readFile(file)
  } catch (error) {
    problems.push({ path: variable, problem: `names ${file}: ${describeReadError(error)}`, remedy })
    return null
  }
  try {
    // Every JSON text is YAML too. A file whose name ends in .json has to be JSON.
    const document: unknown = file.endsWith('.json') ? JSON.parse(content) : parseYaml(content)
    if (isMap(document)) return document
    problems.push({ path: variable, problem: `names ${file}, which holds no map`, remedy })
  } catch (error) {
    const problem = `names ${file}, which cannot be read: ${(error as Error).message.trimEnd()}`
    problems.push({ path: variable, problem, remedy: 'Mend the file.' })
  }
  return null
}

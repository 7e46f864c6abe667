import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import { version } from '../src/version.ts'

/** The script of `client/`, minified for browsers of 2021 and later, with a line that says its version. */
export async function buildClient(): Promise<string> {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL('../client/script.ts', import.meta.url))],
    banner: { js: `/*! Chute ${version}, MIT */` },
    bundle: true,
    minify: true,
    format: 'iife',
    target: 'es2021',
    tsconfigRaw: {},
    write: false,
  })
  return outputFiles[0]!.text
}

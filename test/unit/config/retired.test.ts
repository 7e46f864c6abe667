import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { describeConfig } from '../../../src/config/describe-config.ts'
import { hashOfConfig, planReload } from '../../../src/config/reload.ts'
import { loadFile, problemsOf } from '../../support/config-fixture.ts'

const inUse = 'a: { delivery: at-most-once }'

describe('retired: true', () => {
  test('takes a stream out of use, whatever else is set for it, and keeps its name', () => {
    const config = loadFile(
      `streams: { ${inUse}, old: { retired: true }, older: { retired: true, delivery: at-least-once, topic: a } }`,
    )
    expect(config.streams.map(({ name }) => name)).toEqual(['a'])
    expect(config.retiredStreams).toEqual(['old', 'older'])
    const { streams } = parse(describeConfig(config)) as { streams: Record<string, unknown> }
    expect([streams['old'], streams['older']]).toEqual([{ retired: true }, { retired: true }])
  })

  test.each(['"true"', 'TRUE', '"TRUE"'])('may be %s, as each other value that is true or false', (value) => {
    expect(loadFile(`streams: { ${inUse}, old: { retired: ${value} } }`).retiredStreams).toEqual(['old'])
  })

  test('is false for a stream that is in use', () => {
    const { streams, retiredStreams } = loadFile('streams: { a: { delivery: at-most-once, retired: false } }')
    expect([streams.length, retiredStreams]).toEqual([1, []])
  })

  test('keys may still name the stream, so that its clients learn that it is gone', () => {
    const key = `keys: { web: { kind: public, sha256: '${'a'.repeat(64)}', streams: [old] } }`
    expect(loadFile(`{ streams: { ${inUse}, old: { retired: true } }, ${key} }`).http.keys).toHaveLength(1)
  })

  test.each([
    ['{ old: { retired: true } }', 'streams', 'has retired streams only, so no event could be taken'],
    [`{ ${inUse}, old: { retired: true, topik: x } }`, 'streams.old.topik', 'is not a setting'],
    [`{ ${inUse}, old: { retired: on } }`, 'streams.old.retired', 'is'],
  ])('%s is refused', (streams, path, problem) => {
    const problems = problemsOf(() => loadFile(`streams: ${streams}`))
    expect(problems.map((each) => each.path)).toContain(path)
    expect(problems.find((each) => each.path === path)?.problem).toContain(problem)
  })

  test('a reload retires a stream, and puts it in use again', () => {
    const before = loadFile(`streams: { ${inUse}, b: { delivery: at-most-once } }`)
    const after = loadFile(`streams: { ${inUse}, b: { delivery: at-most-once, retired: true } }`)
    const there = planReload(before, after)
    expect(there.changes).toEqual(['streams.b is gone', 'streams.b is retired'])
    expect(there.config).toEqual(after)
    const back = planReload(after, before)
    expect(back.changes).toEqual(['streams.b is new', 'streams.b is no longer retired'])
    expect(back.config).toEqual(before)
    expect(hashOfConfig(before)).not.toBe(hashOfConfig(after))
    const without = loadFile(`streams: { ${inUse} }`)
    expect(hashOfConfig(without)).not.toBe(hashOfConfig(after))
    expect(planReload(after, without).changes).toEqual(['streams.b is no longer retired'])
  })
})

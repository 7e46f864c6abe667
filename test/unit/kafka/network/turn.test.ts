import { expect, test } from 'vitest'
import { TurnEnd } from '../../../../src/kafka/network/turn.ts'

async function nextTurn(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve))
}

test('what is written at the end of a turn is written once, behind all that was made', async () => {
  const turn = new TurnEnd()
  const order: string[] = []
  turn.write(() => order.push('early write'))
  for (const name of ['a', 'b'])
    turn.make(() => {
      order.push(name)
      if (name === 'a') turn.write(() => order.push('write'))
    })
  expect(order).toEqual([])
  await nextTurn()
  expect(order).toEqual(['a', 'b', 'early write', 'write'])
})

test('what is asked for at the end of a turn is done at the end of the next one', async () => {
  const turn = new TurnEnd()
  const order: string[] = []
  turn.write(() => {
    turn.make(() => order.push('made'))
    turn.write(() => order.push('written'))
  })
  await nextTurn()
  expect(order).toEqual([])
  await nextTurn()
  expect(order).toEqual(['made', 'written'])
})

test('everybody is the first one in some turn', async () => {
  const turn = new TurnEnd()
  const first = new Set<string>()
  for (let i = 0; i < 3; i++) {
    const order: string[] = []
    for (const name of ['a', 'b', 'c']) turn.make(() => order.push(name))
    await nextTurn()
    first.add(order[0]!)
  }
  expect([...first].toSorted()).toEqual(['a', 'b', 'c'])
})

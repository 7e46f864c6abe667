import { onCLS, onFCP, onINP, onLCP, onTTFB } from './web-vitals.js'

const { chute, document } = window

for (const on of [onCLS, onFCP, onINP, onLCP, onTTFB]) on((metric) => chute.vital(metric))

document.querySelector('#buy').addEventListener('click', () => chute('clicked', { plan: 'pro' }))

document.querySelector('#order').addEventListener('submit', (event) => {
  event.preventDefault()
  chute('ordered', { properties: Object.fromEntries(new FormData(event.target)) })
})

document.querySelector('#fail').addEventListener('click', () => {
  throw new RangeError('this is on purpose')
})

document.querySelector('#refused').addEventListener('click', () => {
  document.body.append(Object.assign(new Image(), { src: 'https://other.example/a.png', alt: 'refused' }))
})

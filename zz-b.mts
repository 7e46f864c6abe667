import { launchChromium, servePage } from '/work/wt/reload/test/support/browser.ts'
const b = await launchChromium()
const s = await servePage()

const V: Record<string,string> = {
 full: `(f, n) => JSON.stringify({ before: undefined, value: 1, source: session, url: here(), timestamp: Date.now(), ...f, name: n, session, id: session + '-' + ++count })`,
 concat: `(f, n) => '{"value":1,"source":"' + session + '","url":"http://127.0.0.1:1234/shop/item","session":"'+session+'","timestamp":' + Date.now() + ',' + JSON.stringify({...f, name: n, id: session + '-' + ++count }).slice(1)`,
 small: `(f, n) => JSON.stringify({ ...f, name: n, session, id: session + '-' + ++count })`,
 here: `(f, n) => JSON.stringify({ before: undefined, value: 1, source: session, url: 'http://127.0.0.1:1234/shop/item', timestamp: Date.now(), ...f, name: n, session, id: session + '-' + ++count })`,
 noop: `(f, n) => n`,
 onlypush: `(f, n) => { count++; if (held + n.length < 5e5 && (held += n.length) && queue.push(n)) isAsked ||= !queueMicrotask(() => {}) }`,
}
const client = (await import('node:fs')).readFileSync('/work/main/dist/client/chute.js','utf8').replace(/^export /gm,'')
V.real = `(() => { ${client}; const c = createChute({url:'http://127.0.0.1:9/'}); return (f,n)=>c(n,f) })()`
const res: Record<string, number[]> = {}
for (let round = 0; round < 5; round++) for (const [k, f] of Object.entries(V)) {
  const p = await b.newPage(); await p.goto(s.origin + '/shop/item?x=1#y')
  const d = await p.evaluate(`(() => { const session='12345678901234567890', prefix='8e03978e-40d5-43dd-bc93-6894a57f9324'; const here = (u = document.URL) => u.split(/[?#]/)[0]; let count = 0, held = 0, isAsked = false; const queue = []
   const f = ${f}
   const t = performance.now(); for (let i = 0; i < 1000; i++) f({ step: i, plan: 'pro' }, prefix + '-' + i); return performance.now() - t })()`) as number
  ;(res[k] ??= []).push(d); await p.close()
}
for (const k in res) console.log(k, res[k]!.map((x) => x.toFixed(1)).join(' '))
await b.close(); s.close()

import { createChute, type Chute, type ChuteOptions } from './chute.ts'

declare global {
  interface Window {
    chute?: Chute & { q?: [call: '' | 'vital' | 'error' | 'page', given: [never, never]][] }
  }
}

/**
 * The script tag: makes the client of the tag's attributes, and makes the calls that the page has kept meanwhile
 * (the snippet of docs/browser.md). A second tag does nothing. An attribute of which no address can be made is an uncaught error in the console.
 */
// Not `const { chute }`: this is shorter as gzip.
const chute = window.chute
if (!chute || chute.q) {
  const tag = document.currentScript as HTMLScriptElement
  const client = (window.chute = createChute({
    ...(tag.dataset as Partial<ChuteOptions>),
    url: tag.src,
    errors: 'errors' in tag.dataset,
    page: 'page' in tag.dataset,
  }))
  // A page may have kept what is no call of the client. The calls behind it are made.
  chute?.q!.map(([call, given]) => {
    try {
      ;(call ? client[call] : client)(...given)
    } catch {}
  })
}

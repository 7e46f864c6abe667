import { createChute, type Chute, type ChuteOptions } from './chute.ts'

declare global {
  interface Window {
    chute?: Chute & { q?: [call: '' | 'vital' | 'error' | 'page', given: [never, never]][] }
  }
}

/**
 * The script tag: makes the client of the tag's attributes, and makes the calls that the page has kept meanwhile
 * (the snippet of docs/browser.md). A second tag does nothing.
 */
const { chute } = window
const tag = document.currentScript as HTMLScriptElement | null
if (tag && (!chute || chute.q)) {
  try {
    const { dataset } = tag
    const client = createChute({
      ...(dataset as Partial<ChuteOptions>),
      url: tag.src,
      errors: 'errors' in dataset,
      page: 'page' in dataset,
    })
    window.chute = client
    for (const [call, given] of chute?.q ?? []) (call ? client[call] : client)(...given)
  } catch (error) {
    // eslint-disable-next-line no-console -- the page's developer reads the console
    console.warn('chute:', error)
  }
}

/**
 * The browser client: from a call in a page to `POST /v1/beacon/{stream}` of a gateway. It has no dependency, and the script
 * that is made of it has at most 2,048 bytes as gzip (test/unit/client/size.test.ts).
 *
 * Invariants. An event is in one place: in `queue`, in `zipping`, in a request that is under way, or in localStorage. An event
 * keeps its id wherever it goes, so a stream with `dedupe: on` writes it once. Nothing here throws into the page. At most
 * {@link mostHeld} characters are held, which are at most 1 MB.
 */

/** What a page tells the client. The attributes of the script tag have the same names (`data-key`, `data-stream` …). */
export interface ChuteOptions {
  /** The gateway's address, such as `https://in.example.com/`. In a script tag: the address of the script. */
  readonly url: string
  /** The stream. Left out: `web`. */
  readonly stream?: string | undefined
  /** A public key. Left out: the gateway needs none. */
  readonly key?: string | undefined
  /** The gateway's `BEACON_PATH`, such as `/in`. Left out: `v1/beacon`, relative to `url`. */
  readonly path?: string | undefined
  /** The share of sessions that send anything, from 0 to 1. Left out: 1. */
  readonly sample?: number | string | undefined
  /** `true`: uncaught errors and rejections are sent, {@link mostErrors} at most. */
  readonly errors?: boolean | undefined
  /** `true`: a `page.view` is sent now, and when the page's history changes. */
  readonly page?: boolean | undefined
  /** `none`: nothing is kept in sessionStorage and localStorage. Each page load then is a session of its own. */
  readonly storage?: string | undefined
  /** `gpc`, `dnt` or both: send nothing when the browser says Global Privacy Control, or Do Not Track. */
  readonly respect?: string | undefined
}

/** The fields of an event. What JSON cannot hold is left out of the event, or becomes null. */
export type Fields = Readonly<Record<string, unknown>>

/** What of a metric of `web-vitals` is sent. The rest stays in the page: elements, and addresses with their queries. */
export interface Vital {
  readonly name: string
  readonly value: number
  readonly delta?: number
  readonly rating?: string
  /** It is sent as `metricId`, since an event has an id of its own. */
  readonly id?: string
  readonly navigationType?: string
}

/** The client. Each of its functions takes an event, or does nothing; none throws. */
export interface Chute {
  /** Takes an event. Its `value` is 1 and its `source` is the session, unless `fields` say otherwise. */
  (name: string, fields?: Fields): void
  /** Takes a metric of the library `web-vitals`. */
  vital(metric: Vital): void
  /** Takes an error that the page has caught itself. */
  error(error: unknown, fields?: Fields): void
  /** Takes a page view: url, title and referrer. */
  page(fields?: Fields): void
  /** Sends now what waits. */
  flush(): void
}

/** What a person has asked the browser to tell each site. */
interface Signals {
  readonly globalPrivacyControl?: boolean
  readonly doNotTrack?: string | null
}

/** Longest event, and longest body of a `fetch`, in characters. UTF-8 makes at most 60,000 bytes of it, and keepalive allows 65,536. */
const mostCharacters = 2e4
/** The most characters that are held. A character of a JavaScript string takes two bytes at most. */
const mostHeld = 5e5
/** The most errors that a page load sends. */
const mostErrors = 20
const flushAfterMs = 2e3
/** A smaller body is not worth the work of compressing it. */
const leastZipped = 2e3

/** Makes a client. On a server, where there is no document, it does nothing. */
export function createChute(options: ChuteOptions): Chute {
  /** An address without its query, which may hold secrets. */
  const here = (url = document.URL): string => url.split(/[?#]/)[0]!
  const { url, stream = 'web', key, path = 'v1/beacon', sample = 1, respect = '', storage } = options
  const told: Record<string | number, unknown> = {}
  let endpoint: string
  let isOn: boolean | undefined
  let isGone: boolean | undefined
  let session: string
  let count: number
  let errors = 0
  let queue: string[] = []
  /** The events that are being compressed. They are not sent yet. */
  let zipping: string[] | 0 | undefined
  let isBusy: boolean | undefined
  let held = 0
  let timer: ReturnType<typeof setTimeout> | undefined
  let isAsked: boolean | 0 | undefined
  /** The number that localStorage has of the session. */
  let noted = 0
  let failures = 0
  let waitUntil = 0
  let referrer: string

  /** Says something in the console, once. */
  const tell = (why: string | number, event: unknown): void => {
    // eslint-disable-next-line no-console -- the page's developer reads the console
    if (!told[why]) console.warn('chute:', (told[why] = why), event)
  }

  /** Changes what is kept under the endpoint. A browser that keeps nothing throws, and then nothing changes. */
  const stored = (
    name: 'localStorage' | 'sessionStorage',
    change: (area: Storage, kept?: string) => void,
  ): void => {
    try {
      if (storage != 'none') change(window[name], window[name][endpoint])
    } catch {}
  }

  /**
   * Takes over the session of the page before, in the same tab. A page has the session to itself: it takes the session out of
   * sessionStorage, and gives it back when it goes. So a tab that is a copy of another one has a session of its own.
   */
  const begin = (): void => {
    isGone = false
    session = crypto.getRandomValues(new Uint32Array(2)).join('')
    count = 0
    stored('sessionStorage', (area, kept) => {
      delete area[endpoint]
      // `++count` makes a number of the text.
      if (kept) [session, count] = kept.split('-') as [string, never]
    })
    isOn = (session.slice(-4) as never) / 1e4 < (sample as number)
    take()
  }

  /** The id of the last event. */
  const lastId = (): string => `${session}-${count}`

  const save = (): void =>
    stored('sessionStorage', (area) => {
      area[endpoint] = lastId()
    })

  /** @returns something falsy if there is no room. */
  const add = (event: string): unknown =>
    held + event.length < mostHeld && (held += event.length) && queue.push(event)

  const done = (events: string[]): void => {
    for (const { length } of events) held -= length
  }

  /** Takes the first events off a queue that is not empty: one at least, and not more than `size` characters. */
  const cut = (size: number): string[] => {
    let to = 0
    do size -= queue[to++]!.length + 1
    while (queue[to] && queue[to]!.length < size)
    return queue.splice(0, to)
  }

  const bodyOf = (events: string[]): string => `[${events.join()}]`

  const putBack = (events: string[]): unknown => queue.unshift(...events)

  /** Gives the events that could not be sent to whichever page of the origin comes next. */
  const give = (): void =>
    stored('localStorage', (area, kept) => {
      const all = (kept ? [kept, ...queue] : queue).join('\n')
      if (all.length < mostHeld) {
        area[endpoint] = all
        done(queue)
        queue = []
      }
    })

  const take = (): void => {
    stored('localStorage', (area, kept) => {
      delete area[endpoint]
      if (kept) kept.split('\n').forEach(add)
    })
    next()
  }

  const isHidden = (): boolean => isGone || document.hidden
  const mayPost = (): unknown => queue[0] && navigator.onLine && Date.now() >= waitUntil

  /**
   * Notes how far the session has come, and sees to it that the queue is sent, when the task at hand is over. A write to localStorage
   * takes a tenth of a millisecond: there is one for all the events of a task. A full batch goes in a task of its own, so that the task of the
   * page gets no longer by it.
   */
  const next = (): void => {
    isAsked ||= !(queueMicrotask(() => {
      isAsked = 0
      if (noted != count)
        stored('localStorage', (area) => {
          area[session + endpoint] = lastId()
          noted = count
        })
      if (isHidden()) leave()
      else if (queue[0] && !isBusy) {
        if (held > mostCharacters && !failures && mayPost()) setTimeout(flush)
        else
          timer ||= setTimeout(
            flush,
            Math.max(
              failures ? Math.min(6e4, 500 * 2 ** failures) * (1 + Math.random()) : flushAfterMs,
              waitUntil - Date.now(),
            ),
          )
      }
    }) as never)
  }

  /** Sends a batch, and reads the reply. `keepalive` lets it end if the page goes meanwhile. */
  const post = async (events: string[], body: BodyInit = bodyOf(events)): Promise<void> => {
    let isDone: boolean | undefined
    try {
      const { status, headers } = await fetch(endpoint, {
        method: 'POST',
        body,
        credentials: 'omit',
        keepalive: true,
      })
      const [why, nth] = (headers.get('chute-error') ?? '').split('; event ')
      waitUntil = Date.now() + ~~headers.get('retry-after')! * 1e3
      isDone = status < 500 && status != 408 && status != 409 && status != 429
      if (status > 299 ? isDone : why) tell(why || status, events[parseInt(nth!) || 0])
    } catch {
      if (navigator.onLine) tell('no reply: see CORS_ORIGINS', endpoint)
    }
    if (isDone) {
      done(events)
      failures = 0
    } else {
      putBack(events)
      failures++
    }
    isBusy = false
    next()
  }

  const flush = async (): Promise<void> => {
    // A timer that is left behind would send before its time. A flush in vain sets one, since the timer itself may have called.
    timer = clearTimeout(timer) as never
    if (isBusy || !mayPost()) return next()
    isBusy = true
    const events = (zipping = cut(mostCharacters))
    let body: BodyInit = bodyOf(events)
    if (body.length > leastZipped) {
      try {
        const zipped = new Response(body).body!.pipeThrough(new CompressionStream('gzip'))
        body = await new Response(zipped).arrayBuffer()
      } catch {}
    }
    // The page may have been hidden meanwhile. Then the events are sent already.
    if (zipping == events) {
      zipping = 0
      void post(events, body)
    }
  }

  /**
   * Sends all that it can before the page may end. Only a wait that the gateway asked for holds it up: a browser fails the requests of
   * a page that is being left, and those are no reason to wait. A browser has 65,536 bytes for all the beacons and keepalive requests of a page
   * that are under way, and only the browser knows how many are left. So a batch that the browser refuses is halved.
   */
  const leave = (): void => {
    if (zipping) {
      putBack(zipping)
      zipping = 0
      isBusy = false
    }
    let isTaken: unknown
    for (let size = 6e4; size > 400 && mayPost();) {
      const events = cut(size)
      if (navigator.sendBeacon?.(endpoint, bodyOf(events))) {
        isTaken = events
        done(events)
      } else {
        putBack(events)
        size /= 2
      }
    }
    if (!isTaken && !failures && mayPost()) {
      void post(cut(mostCharacters))
    }
    if (queue[0]) give()
  }

  const chute = (name: string, fields?: Fields): void => {
    if (!isOn) return
    // The first event of a session says how far other sessions of the browser came, so that `chute audit --clients` knows their ends.
    // Each session has a name of its own in localStorage, since several tabs may be open.
    let before: string[] | undefined
    if (!count++)
      stored('localStorage', (area) => {
        for (const word in area) {
          if (word.endsWith(endpoint) && word != endpoint) {
            ;(before ??= []).push(area[word])
            delete area[word]
          }
        }
      })
    try {
      const event = JSON.stringify({
        before,
        value: 1,
        source: session,
        url: here(),
        timestamp: Date.now(),
        ...fields,
        name,
        session,
        id: lastId(),
      })
      if (event.length > mostCharacters || !add(event)) tell('too large or too many', name)
      if (isGone) save()
      next()
    } catch (error) {
      tell(error as string, name)
    }
  }

  chute.vital = ({ name, value, delta, rating, navigationType, id }: Vital): void =>
    chute(name, { value, delta, rating, navigationType, metricId: id })

  chute.error = (error: unknown, fields?: Fields): void => {
    if (errors++ < mostErrors) {
      try {
        const { message = error, stack } = Object(error) as { message?: unknown; stack?: unknown }
        chute('error', {
          message: String(message).slice(0, 500),
          stack: String(stack).slice(0, 2e3),
          ...fields,
        })
      } catch {}
    }
  }

  chute.page = (fields?: Fields): void => {
    chute('page.view', { title: document.title, referrer, ...fields })
    referrer = here()
  }

  chute.flush = flush

  if (typeof document == 'undefined') return chute
  const signals = navigator as Navigator & Signals
  if (signals.globalPrivacyControl && respect.includes('gpc')) return chute
  if (signals.doNotTrack == '1' && respect.includes('dnt')) return chute
  endpoint = `${new URL(`${path}/${stream}`, url)}${key ? `?key=${key}` : ''}`
  referrer = here(document.referrer)
  begin()
  addEventListener('online', next)
  const look = (): void => (isHidden() ? leave() : take())
  addEventListener('visibilitychange', look)
  // The page before may end in another process, after this one has begun. Then what it gives comes late.
  addEventListener('storage', look)
  addEventListener('pagehide', () => {
    isGone = true
    save()
    leave()
  })
  addEventListener('pageshow', ({ persisted }) => {
    if (persisted) begin()
  })
  if (options.errors) {
    addEventListener('error', ({ error, message, filename, lineno, colno }) =>
      chute.error(error ?? message, { file: filename, line: lineno, column: colno }),
    )
    addEventListener('unhandledrejection', ({ reason }) => chute.error(reason))
  }
  if (options.page) {
    // A turn later the page has its new title. The Navigation API tells of pushState too, and nothing of the page is patched.
    window.navigation?.addEventListener('currententrychange', () =>
      setTimeout(() => referrer == here() || chute.page()),
    )
    chute.page()
  }
  return chute
}

/**
 * The browser client: from a call in a page to `POST /v1/beacon/{stream}` of a gateway. It has no dependency, and the script
 * that is made of it has at most 2,048 bytes as gzip (test/unit/client/script.test.ts).
 *
 * Invariants. An event is in one place: in `queue`, in `busy`, in a request that is under way, or in localStorage. An event
 * keeps its id wherever it goes, so a stream with `dedupe: on` writes it once. No call throws into the page. At most
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
export function createChute({
  url,
  stream = 'web',
  key,
  path = 'v1/beacon',
  sample = 1,
  errors,
  page,
  storage,
  respect = '',
}: ChuteOptions): Chute {
  /** An address without its query, which may hold secrets. */
  const here = (address = document.URL): string => address.split(/[?#]/)[0]!
  const told: Record<string | number, unknown> = {}
  let endpoint: string
  let isOn: boolean | undefined
  let isGone: boolean | undefined
  let session: string
  let count: number
  let errorCount = 0
  let queue: string[] = []
  /** The events that are being compressed, which are not sent yet. No events: a request is under way. */
  let busy: string[] | 0 | undefined
  /**
   * The number of events at the head of the queue that were put back. The gateway may still be at work on them. Then it refuses the whole body
   * (409), and nobody reads the reply to a beacon. So they share no body with new events.
   */
  let retried = 0
  let held = 0
  let timer: ReturnType<typeof setTimeout> | undefined
  let isAsked: unknown
  /** The number that localStorage has of the session. */
  let noted = 0
  /** Requests that failed since the last one that went well. A request of a page that is being left fails too, so one says little. */
  let failures = 0
  /** On the clock of `performance`, which never steps back. */
  let waitUntil = 0
  let referrer: string

  /** Says something in the console, once. */
  const tell = (why: string | number, event: unknown): void => {
    // eslint-disable-next-line no-console -- the page's developer reads the console
    if (!told[why]) console.warn('chute:', (told[why] = why), event)
  }

  /**
   * Changes what is kept under the endpoint. A browser that keeps nothing throws, and so does a change that needs what is not there. Then
   * nothing changes.
   */
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
   * sessionStorage, and gives it back when it goes. So a tab that is a copy of another one has a session of its own, unless the page that was
   * copied is without the client: then the session lies in sessionStorage, and both tabs take it.
   */
  const begin = (): void => {
    isGone = false
    session = crypto.getRandomValues(new Uint32Array(2)).join('')
    count = 0
    stored('sessionStorage', (area, kept) => {
      delete area[endpoint]
      // `++count` makes a number of the text.
      ;[session, count] = kept!.split('-') as [string, never]
    })
    isOn = (session.slice(-4) as never) / 1e4 < (sample as number)
    take()
  }

  /** The id of the last event. */
  const lastId = (): string => `${session}-${count}`

  /** @returns something falsy if there is no room. */
  const add = (event: string): unknown =>
    held + event.length < mostHeld && (held += event.length) && queue.push(event)

  const done = (events: string[]): unknown => events.map(({ length }) => (held -= length))

  /** Takes the first events off a queue that is not empty: one at least, and not more than `size` characters. */
  const cut = (size: number): string[] => {
    let to = 0
    do size -= queue[to++]!.length + 1
    while (to != retried && (queue[to]?.length as number) < size)
    retried &&= retried - to
    return queue.splice(0, to)
  }

  const bodyOf = (events: string[]): string => `[${events.join()}]`

  const putBack = (events: string[]): void => {
    retried += events.length
    queue.unshift(...events)
  }

  /** Gives the events that could not be sent to whichever page of the origin comes next. */
  const give = (): void =>
    stored('localStorage', (area, kept) => {
      const all = (kept ? [kept, ...queue] : queue).join('\n')
      if (queue[0] && all.length < mostHeld) {
        area[endpoint] = all
        done(queue)
        queue = []
        retried = 0
      }
    })

  /**
   * Takes over what pages before could not send, if it can be sent and if there is room for all of it: in localStorage it is safe from a crash. It
   * counts as failed until a reply says otherwise, so that a page of a moment does not hand it to beacons. It is tried at once: pages that are turned
   * quickly would else only hand it on.
   */
  const take = (): void => {
    if (navigator.onLine)
      stored('localStorage', (area, kept) => {
        if (held + kept!.length < mostHeld) {
          delete area[endpoint]
          kept!.split('\n').forEach(add)
          failures ||= 2
        }
      })
    void flush()
  }

  const isHidden = (): boolean => isGone || document.hidden
  const look = (): void => (isHidden() ? leave() : take())
  const mayPost = (): unknown => queue[0] && navigator.onLine && performance.now() >= waitUntil

  /**
   * Notes how far the session has come, and sees to it that the queue is sent, when the task at hand is over. A write to localStorage
   * takes a tenth of a millisecond: there is one for all the events of a task. A full batch goes in a task of its own, so that the task of the
   * page gets no longer by it.
   */
  const next = (): void => {
    // Without an endpoint the client sends nothing, and there may be no page.
    isAsked ||=
      endpoint &&
      !(queueMicrotask(() => {
        isAsked = 0
        if (noted != count)
          stored('localStorage', (area) => {
            area[session + endpoint] = lastId()
            noted = count
          })
        if (isHidden()) leave()
        else if (queue[0] && !busy) {
          if (held > mostCharacters && !failures && mayPost()) setTimeout(flush)
          else
            timer ||= setTimeout(
              flush,
              Math.max(
                failures ? Math.min(6e4, 500 * 2 ** failures) * (1 + Math.random()) : flushAfterMs,
                // A timer knows whole milliseconds only.
                waitUntil - performance.now() + 1,
              ),
            )
        }
      }) as never)
  }

  /** Sends a batch, and reads the reply. `keepalive` lets it end if the page goes meanwhile. */
  const post = async (events: string[], body: BodyInit = bodyOf(events)): Promise<void> => {
    let isDone: boolean | undefined
    busy = []
    try {
      const { status, headers } = await fetch(endpoint, {
        method: 'POST',
        credentials: 'omit',
        keepalive: true,
        signal: AbortSignal.timeout?.(9e4),
        body,
      })
      const [why, nth] = headers.get('chute-error')?.split(/; event (\d+)/) ?? []
      // A longer timer than 2 ** 31 ms would end at once.
      waitUntil = performance.now() + Math.min(2e6, ~~headers.get('retry-after')!) * 1e3
      isDone = !/^5|40[89]|429/.test(status as never)
      if (status > 299 ? isDone : why) tell(why || status, events[~~nth!])
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
    busy = 0
    next()
  }

  const flush = async (): Promise<void> => {
    // A timer that is left behind would send before its time. A flush in vain sets one, since the timer itself may have called.
    timer = clearTimeout(timer) as never
    if (busy || !mayPost()) return next()
    const events = (busy = cut(mostCharacters))
    let body: BodyInit = bodyOf(events)
    if (body.length > leastZipped) {
      try {
        body = await new Response(
          new Response(body).body!.pipeThrough(new CompressionStream('gzip')),
        ).arrayBuffer()
      } catch {}
    }
    // The page may have been hidden meanwhile. Then the events are sent already.
    if (busy == events) void post(events, body)
  }

  /**
   * Sends all that it can before the page may end. A wait that the gateway asked for holds it up, and so do two failures in a row: then
   * localStorage has the first turn, since nobody reads the reply to a beacon. One failure does not, since a browser fails the requests of
   * a page that is being left. A browser has 65,536 bytes for all the beacons and keepalive requests of a page
   * that are under way, and only the browser knows how many are left. So a batch that the browser refuses is halved.
   */
  const leave = (): void => {
    if ((busy as string[])?.[0]) {
      putBack(busy as string[])
      busy = 0
    }
    if (isGone)
      stored('sessionStorage', (area) => {
        area[endpoint] = lastId()
      })
    if (failures > 1) give()
    let isTaken: unknown
    for (let size = 6e4; size > 400 && mayPost();) {
      const events = cut(size)
      if (navigator.sendBeacon?.(endpoint, bodyOf(events))) {
        isTaken = done(events)
      } else {
        putBack(events)
        size /= 2
      }
    }
    // One request is under way at a time.
    if (!busy && !isTaken && !failures && mayPost()) void post(cut(mostCharacters))
    give()
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
      next()
    } catch (error) {
      tell(error as string, name)
    }
  }

  chute.vital = (metric: Vital): void => {
    try {
      const { name, id: metricId, value, delta, rating, navigationType } = metric
      chute(name, { metricId, value, delta, rating, navigationType })
    } catch {}
  }

  chute.error = (error: unknown, fields?: Fields): void => {
    if (errorCount++ < mostErrors) {
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

  if (!globalThis.document) return chute
  if ((navigator as Signals).globalPrivacyControl && respect.includes('gpc')) return chute
  if (navigator.doNotTrack == '1' && respect.includes('dnt')) return chute
  endpoint = new URL(`${path}/${stream}${key ? `?key=${key}` : ''}`, url).href
  referrer = here(document.referrer)
  begin()
  addEventListener('online', look)
  addEventListener('visibilitychange', look)
  // The page before may end in another process, after this one has begun. Then what it gives comes late.
  addEventListener('storage', look)
  addEventListener('pagehide', () => {
    isGone = true
    leave()
  })
  // It comes back from the back/forward cache.
  addEventListener('pageshow', () => isGone && begin())
  if (errors) {
    addEventListener('error', (event) =>
      chute.error(event.error ?? event.message, {
        file: event.filename,
        line: event.lineno,
        column: event.colno,
      }),
    )
    addEventListener('unhandledrejection', (event) => chute.error(event.reason))
  }
  if (page) {
    // A turn later the page has its new title. The Navigation API tells of pushState too, and nothing of the page is patched.
    window.navigation?.addEventListener('currententrychange', () =>
      setTimeout(() => referrer == here() || chute.page()),
    )
    chute.page()
  }
  return chute
}

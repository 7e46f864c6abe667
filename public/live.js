// Polls /live.json once a second and shows it. Reads /live/events, and shows the last events. A rate is the difference of a counter, divided by the time of the gateway's own clock. So a slow
// poll shows no false peak. Texts are set as text, and never as HTML.

const pollMs = 1000
const historyLength = 120
// A line is at least this many points wide, also while it has fewer points.
const shortestLine = 30
// If there are more kinds of refusals, the others share one row.
const refusedRows = 20

const numbers = new Intl.NumberFormat('en')
const format = (value) => numbers.format(Math.round(value))
const formatRate = (value) => (value > 0 && value < 10 ? value.toFixed(1) : format(value))
const formatBytes = (bytes) =>
  bytes >= 1 << 20
    ? `${(bytes / (1 << 20)).toFixed(1)} MiB`
    : bytes >= 1024
      ? `${(bytes / 1024).toFixed(1)} KiB`
      : `${format(bytes)} B`
// A small share must not be rounded to 0 %.
const formatShare = (ratio) =>
  ratio === null
    ? 'not known'
    : ratio === 0
      ? '0 %'
      : ratio < 0.0001
        ? '< 0.01 %'
        : `${Number((ratio * 100).toFixed(2))} %`
const sum = (record) => Object.values(record).reduce((total, value) => total + value, 0)

// Of so many events of each stream and code the page knows, and as many are in each list.
const eventsShown = 50
// Events of a page that was hidden for longer are read again when the page is shown.
const hiddenMs = 600_000

const field = (root, name) => root.querySelector(`[data-field="${name}"]`)
const list = (root, name) => root.querySelector(`[data-list="${name}"]`)
const setText = (root, name, text) => {
  const element = field(root, name)
  if (element.textContent !== text) element.textContent = text
}
const setPill = (root, name, text, tone) => {
  setText(root, name, text)
  field(root, name).dataset.tone = tone
}

/** The answer of the last poll, and the points of each line, by name. */
let previous = null
const histories = new Map()

/** Adds a point to a line and draws the line: an area and its edge, with 0 at the bottom and the peak at the top. */
function spark(root, name, key, value) {
  const points = histories.get(key) ?? []
  points.push(value)
  if (points.length > historyLength) points.shift()
  histories.set(key, points)

  const svg = root.querySelector(`[data-spark="${name}"]`)
  if (svg.childElementCount === 0) {
    svg.setAttribute('preserveAspectRatio', 'none')
    for (const shape of ['path', 'polyline'])
      svg.append(document.createElementNS('http://www.w3.org/2000/svg', shape))
  }
  const last = Math.max(points.length, shortestLine) - 1
  svg.setAttribute('viewBox', `0 0 ${last} 30`)
  const peak = Math.max(...points, 1)
  const first = last + 1 - points.length
  const line = points.map((point, index) => `${first + index},${(29 - (point / peak) * 28).toFixed(2)}`)
  svg.querySelector('polyline').setAttribute('points', line.join(' '))
  svg.querySelector('path').setAttribute('d', `M${first},30 L${line.join(' L')} L${last},30 Z`)
}

/** Fills a table body. Each row is an array of texts. A cell changes only if its text has changed, so that a selection survives. */
function fillRows(body, rows) {
  while (body.rows.length > rows.length) body.deleteRow(-1)
  rows.forEach((row, index) => {
    const line = body.rows[index] ?? body.insertRow()
    row.forEach((text, column) => {
      let cell = line.cells[column]
      if (cell === undefined) {
        cell = document.createElement(column === 0 ? 'th' : 'td')
        if (column === 0) cell.scope = 'row'
        line.append(cell)
      }
      if (cell.textContent !== text) cell.textContent = text
    })
  })
}

/** Records that are in Kafka or at a dead-letter place, as far as can be known: all outcomes that are no losses. */
const keptRecords = (stream) => stream.confirmed + stream.sent + stream.acked + stream.deadLettered
const lostRecords = (stream) => stream.suspectedLost + sum(stream.dropped)
const pendingRecords = (stream) => stream.spooled + stream.buffered + stream.inFlight
/** 0 of a stream that is gone: its account stays, and its buffer does not. */
const usedOfBuffer = ({ bufferTotalBytes: total, bufferAvailableBytes: available }) =>
  total === 0 ? 0 : (total - available) / total

/** The notices for an operator, the worst ones first. */
function notices(live) {
  const failed = live.ready ? [] : live.checks.filter(({ ok }) => !ok)
  const found = failed.map(({ name, detail }) => ['bad', `Not ready: ${name}`, detail])
  for (const stream of live.streams) {
    const used = usedOfBuffer(stream)
    if (!stream.connected) {
      const waiting = `${format(pendingRecords(stream))} records wait; the buffer is ${formatShare(used)} full`
      found.push([
        'bad',
        `Kafka is away for ${stream.stream}`,
        `${waiting}${stream.circuitOpen ? '; trying again shortly' : ''}.`,
      ])
    } else if (used > 0.9) {
      found.push(['bad', `The buffer of ${stream.stream} is almost full`, `${formatShare(used)} is in use.`])
    }
    if (stream.suspectedLost > 0) {
      const count = `${format(stream.suspectedLost)} records (${formatShare(stream.suspectedLost / stream.accepted)})`
      found.push([
        'warn',
        `Loss is suspected on ${stream.stream}`,
        `${count} were written and never confirmed. They are not sent again.`,
      ])
    }
    const dropped = Object.entries(stream.dropped).filter(([, count]) => count > 0)
    if (dropped.length > 0) {
      const byReason = dropped
        .map(([reason, count]) => `${format(count)} ${reason.replaceAll('_', ' ')}`)
        .join(', ')
      found.push(['warn', `Records of ${stream.stream} were dropped`, `${byReason}.`])
    }
  }
  // 'bad' comes before 'warn'.
  return found.toSorted(([a], [b]) => a.localeCompare(b))
}

function showNotices(items) {
  const section = list(document, 'notices')
  const wanted = JSON.stringify(items.map(([tone, title]) => [tone, title]))
  if (section.dataset.shown !== wanted) {
    // A screen reader announces a new notice. It does not announce a number that changes in a notice.
    section.dataset.shown = wanted
    section.replaceChildren(
      ...items.map(([tone, title]) => {
        const notice = document.createElement('p')
        notice.className = 'notice'
        notice.dataset.tone = tone
        const strong = document.createElement('strong')
        strong.textContent = `${title}. `
        const detail = document.createElement('span')
        detail.setAttribute('aria-live', 'off')
        notice.append(strong, detail)
        return notice
      }),
    )
  }
  items.forEach(([, , detail], index) => {
    section.children[index].lastChild.textContent = detail
  })
}

/** The rows of a stream's account: pending records, then outcomes. An outcome that this delivery cannot have has no row while it is 0. */
function accountRows(stream, before, seconds) {
  const row = (label, read, isLevel) => {
    const value = read(stream)
    const rate = isLevel || before === undefined ? '' : formatRate((value - read(before)) / seconds)
    return [label, format(value), rate, stream.accepted === 0 ? '' : formatShare(value / stream.accepted)]
  }
  const rows = [row('Buffered', (s) => s.buffered, true), row('In flight', (s) => s.inFlight, true)]
  if (stream.spool !== null) rows.unshift(row('On disk', (s) => s.spooled, true))
  const atLeastOnce = stream.delivery === 'at-least-once'
  if (!atLeastOnce || stream.confirmed > 0) rows.push(row('Confirmed', (s) => s.confirmed))
  if (stream.sent > 0) rows.push(row('Sent, not to be confirmed', (s) => s.sent))
  if (atLeastOnce || stream.acked > 0) rows.push(row('Acknowledged', (s) => s.acked))
  if (!atLeastOnce || stream.suspectedLost > 0) rows.push(row('Suspected lost', (s) => s.suspectedLost))
  if (stream.deadLettered > 0) rows.push(row('Dead letters', (s) => s.deadLettered))
  const reasons = Object.keys(stream.dropped).filter((reason) => stream.dropped[reason] > 0)
  if (reasons.length === 0) rows.push(row('Dropped', () => 0))
  for (const reason of reasons)
    rows.push(row(`Dropped: ${reason.replaceAll('_', ' ')}`, (s) => s.dropped[reason]))
  return rows
}

/** A stream with several topics has an account for each of them. */
const keyOf = ({ stream, topic }) => `${stream}/${topic}`

function showStream(stream, before, seconds) {
  const id = `stream-${keyOf(stream)}`
  let card = document.getElementById(id)
  if (card === null) {
    card = document.getElementById('stream').content.firstElementChild.cloneNode(true)
    card.id = id
    list(document, 'streams').append(card)
  }
  setText(card, 'stream', stream.stream)
  setText(card, 'topic', stream.topic)
  setText(card, 'delivery', stream.delivery)
  if (stream.connected) setPill(card, 'link', 'connected', 'good')
  else setPill(card, 'link', stream.circuitOpen ? 'Kafka away, waiting' : 'Kafka away', 'bad')

  const rate = before === undefined ? 0 : (stream.accepted - before.accepted) / seconds
  setText(card, 'acceptedRate', before === undefined ? '–' : formatRate(rate))
  if (before !== undefined) spark(card, 'accepted', id, rate)

  const usedShare = usedOfBuffer(stream)
  setText(card, 'bufferText', `${formatShare(usedShare)} of ${formatBytes(stream.bufferTotalBytes)} in use`)
  field(card, 'bufferMeter').value = usedShare

  fillRows(list(card, 'account'), accountRows(stream, before, seconds))
  const outcomes = keptRecords(stream) + lostRecords(stream)
  const difference = stream.accepted + stream.recovered - pendingRecords(stream) - outcomes
  const label =
    difference === 0 ? 'Accepted, the sum of these' : `Accepted; ${format(difference)} unaccounted for`
  const total = [[label, format(stream.accepted), before === undefined ? '' : formatRate(rate), '']]
  if (stream.recovered > 0) total.push(['and found on disk at the start', format(stream.recovered), '', ''])
  fillRows(list(card, 'total'), total)

  setText(card, 'lossProducer', formatShare(stream.lossRatio.producer))
  setText(card, 'lossBarrier', formatShare(stream.lossRatio.barrier))
  setText(card, 'lossBroker', formatShare(stream.lossRatio.broker))
  setText(card, 'batchSize', formatBytes(stream.batchSizeAvg))
  setText(card, 'errorRate', formatShare(stream.recordErrorRate))
}

const kindOf = ({ code, transport, stream }) => `${code} ${transport} ${stream}`

/** Refused requests, by kind. The kind with the highest rate comes first. Kinds with the same rate are sorted by their number of requests. */
function showRefused(refused, before, seconds) {
  field(document, 'refusals').hidden = refused.length === 0
  setText(document, 'refused', format(refused.reduce((total, { requests }) => total + requests, 0)))
  const counted = new Map(before?.map((kind) => [kindOf(kind), kind.requests]))
  const rows = refused
    .map((kind) => {
      const rate = before === undefined ? 0 : (kind.requests - (counted.get(kindOf(kind)) ?? 0)) / seconds
      return { ...kind, rate }
    })
    .toSorted((a, b) => b.rate - a.rate || b.requests - a.requests)
  const shown = rows.slice(0, refusedRows).map(({ code, transport, stream, requests, rate }) => {
    return [code, transport, stream === '' ? '–' : stream, format(requests), formatRate(rate)]
  })
  const rest = rows.slice(refusedRows)
  if (rest.length > 0) {
    const requests = rest.reduce((total, kind) => total + kind.requests, 0)
    const rate = rest.reduce((total, kind) => total + kind.rate, 0)
    shown.push([`${format(rest.length)} other kinds`, '', '', format(requests), formatRate(rate)])
  }
  fillRows(list(document, 'refused'), shown)
}

function showUptime(seconds) {
  const parts = [
    [Math.floor(seconds / 86_400), 'd'],
    [Math.floor(seconds / 3600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'min'],
    [seconds % 60, 's'],
  ]
  const first = parts.findIndex(([value]) => value > 0)
  const shown = first === -1 ? [[0, 's']] : parts.slice(first, first + 2)
  return shown.map(([value, unit]) => `${value} ${unit}`).join(' ')
}

function show(live) {
  // After a restart of the gateway its counters begin at 0 again.
  if (previous !== null && live.uptimeSeconds < previous.uptimeSeconds) previous = null
  const seconds = previous === null ? 1 : Math.max((live.nowMs - previous.nowMs) / 1000, 0.001)

  setText(document, 'version', live.version)
  setText(document, 'uptime', showUptime(live.uptimeSeconds))
  const away = live.streams.some((stream) => !stream.connected)
  if (!live.ready) setPill(document, 'state', 'not ready', 'bad')
  else if (away) setPill(document, 'state', 'ready, Kafka is away', 'warn')
  else setPill(document, 'state', 'ready', 'good')
  showNotices(notices(live))

  const accepted = sum(live.edge.accepted)
  const rejected = sum(live.edge.rejected)
  const records = live.streams.reduce((total, stream) => total + stream.accepted, 0)
  const pending = live.streams.reduce((total, stream) => total + pendingRecords(stream), 0)
  const lost = live.streams.reduce((total, stream) => total + lostRecords(stream), 0)
  setText(document, 'accepted', format(accepted))
  setText(document, 'rejected', format(rejected))
  setText(document, 'pending', format(pending))
  setText(document, 'lost', format(lost))
  setText(document, 'lostShare', formatShare(records === 0 ? 0 : lost / records))
  if (previous !== null) {
    const acceptedRate = (accepted - sum(previous.edge.accepted)) / seconds
    const rejectedRate = (rejected - sum(previous.edge.rejected)) / seconds
    setText(document, 'acceptedRate', formatRate(acceptedRate))
    setText(document, 'rejectedRate', formatRate(rejectedRate))
    spark(document, 'accepted', 'accepted', acceptedRate)
    spark(document, 'rejected', 'rejected', rejectedRate)
    spark(document, 'pending', 'pending', pending)
    spark(document, 'lost', 'lost', lost)
  }

  for (const stream of live.streams) {
    showStream(
      stream,
      previous?.streams.find((other) => keyOf(other) === keyOf(stream)),
      seconds,
    )
  }
  showRefused(live.edge.refused, previous?.edge.refused, seconds)
  const transports = Object.keys(live.edge.accepted)
  fillRows(
    list(document, 'transports'),
    transports.map((name) => [name, format(live.edge.accepted[name]), format(live.edge.rejected[name])]),
  )
  showEventsState(live.hasEvents)
  previous = live
}

function showEventsState(hasEvents) {
  field(document, 'eventsOff').hidden = hasEvents
  if (hasEvents) readEvents()
  else setPill(document, 'eventsState', 'off', 'quiet')
}

/** The last events by stream and code, the oldest first, and all of their ids. */
const events = new Map()
const known = new Set()
let reader = null
let isPaused = false
let closing = null
const filters = { stream: '', code: '' }

/** Opens the stream of events, unless it is open. The browser opens it again when it breaks off. */
function readEvents() {
  if (reader !== null) return
  reader = new EventSource('live/events')
  setPill(document, 'eventsState', 'connecting …', 'quiet')
  reader.addEventListener('hello', ({ data }) => {
    setPill(document, 'eventsState', 'live', 'good')
    for (const stream of JSON.parse(data).streams) addChoice('stream', stream)
  })
  reader.addEventListener('message', ({ data }) => takeEvents(JSON.parse(data)))
  reader.addEventListener('error', () => {
    if (reader.readyState === EventSource.CONNECTING)
      return setPill(document, 'eventsState', 'no answer', 'bad')
    // The gateway has said no, such as to one reader too many, and the browser does not ask again.
    setPill(document, 'eventsState', 'refused, asking again', 'bad')
    setTimeout(() => (reader = null), 5000)
  })
}

function takeEvents(came) {
  for (const event of came) {
    if (known.has(event.id)) continue
    known.add(event.id)
    const group = `${event.stream} ${event.code}`
    const others = events.get(group) ?? []
    events.set(group, others)
    others.push(event)
    if (others.length > eventsShown) known.delete(others.shift().id)
    if (event.stream !== null) addChoice('stream', event.stream)
    if (event.code !== null) addChoice('code', event.code)
  }
  if (!isPaused) showEvents()
}

/** Adds a choice to a filter, in the order of the alphabet behind the first one, which is for all. */
function addChoice(name, value) {
  const select = document.querySelector(`[data-filter="${name}"]`)
  const others = [...select.options].slice(1)
  if (others.some((option) => option.value === value)) return
  select.insertBefore(new Option(value, value), others.find((option) => option.value > value) ?? null)
}

function showEvents() {
  const all = [...events.values()]
    .flat()
    .filter(({ stream }) => filters.stream === '' || stream === filters.stream)
    .toSorted((a, b) => b.timeMs - a.timeMs)
  const refused = all.filter(
    ({ fate, code }) => fate === 'refused' && (filters.code === '' || code === filters.code),
  )
  const taken = all.filter(({ fate }) => fate !== 'refused')
  fillEvents(list(document, 'refusedEvents'), refused.slice(0, eventsShown))
  fillEvents(list(document, 'takenEvents'), taken.slice(0, eventsShown))
}

/** Fills a list of events. An event that is in the list already keeps its element, so that a selection survives. */
function fillEvents(body, wanted) {
  const elements = new Map([...body.children].map((element) => [element.dataset.id, element]))
  const ids = new Set(wanted.map(({ id }) => id))
  for (const [id, element] of elements) if (!ids.has(id)) element.remove()
  wanted.forEach((event, index) => {
    const element = elements.get(event.id) ?? eventElement(event)
    if (body.children[index] !== element) body.insertBefore(element, body.children[index] ?? null)
  })
}

const fates = {
  taken: ['taken', 'good'],
  dropped: ['dropped', 'bad'],
  duplicate: ['duplicate', 'quiet'],
  refused: ['refused', 'warn'],
}

/** The element of an event. What a client has sent is set as text. */
function eventElement(event) {
  const element = document.getElementById('event').content.firstElementChild.cloneNode(true)
  element.dataset.id = event.id
  const time = element.querySelector('time')
  time.dateTime = new Date(event.timeMs).toISOString()
  time.textContent = new Date(event.timeMs).toLocaleTimeString()
  const [fate, tone] = fates[event.fate]
  setPill(element, 'fate', event.code ?? fate, tone)
  const where = event.stream ?? event.path ?? 'no stream'
  const nth =
    event.index === null || event.events === 1 ? '' : ` · event ${event.index + 1} of ${event.events}`
  setText(element, 'what', `${where} · ${event.transport}${nth}`)
  const whole =
    event.reply === null || event.reply === event.code ? [] : [`The request was refused: ${event.reply}`]
  const detail = [...(event.detail === null ? [] : [event.detail]), ...whole]
  setOrHide(element, 'detail', detail.map((sentence) => `${sentence}.`).join(' '))
  setOrHide(element, 'wayOut', event.wayOut ?? '')
  field(element, 'way').hidden = event.wayOut === null
  const isRefused = event.fate === 'refused'
  setOrHide(element, 'text', event.text ?? (isRefused ? 'Its body was not read.' : ''))
  const sender = [
    event.origin === null ? 'from no page' : `from ${event.origin}`,
    ...(event.key === null ? [] : [`key ${event.key}`]),
    ...(event.bytes === null ? [] : [formatBytes(event.bytes)]),
  ]
  setText(element, 'sender', sender.join(' · '))
  return element
}

function setOrHide(root, name, text) {
  setText(root, name, text)
  field(root, name).hidden = text === ''
}

for (const select of document.querySelectorAll('[data-filter]')) {
  select.append(new Option('all', ''))
  select.addEventListener('change', () => {
    filters[select.dataset.filter] = select.value
    showEvents()
  })
}
field(document, 'filters').addEventListener('submit', (submit) => submit.preventDefault())
field(document, 'pause').addEventListener('click', ({ target }) => {
  isPaused = !isPaused
  target.setAttribute('aria-pressed', String(isPaused))
  target.textContent = isPaused ? 'Go on' : 'Pause'
  if (!isPaused) showEvents()
})

async function poll() {
  // A hidden page does not poll, and costs the gateway nothing.
  if (document.hidden) return
  try {
    const response = await fetch('live.json', { signal: AbortSignal.timeout(5000) })
    if (!response.ok) throw new Error(`status ${response.status}`)
    show(await response.json())
  } catch (error) {
    setPill(document, 'state', 'no answer', 'bad')
    const since =
      previous === null ? '' : ` The numbers are of ${new Date(previous.nowMs).toLocaleTimeString()}.`
    showNotices([['bad', 'The gateway does not answer', `${error.message}.${since}`]])
  }
}

async function run() {
  await poll()
  setTimeout(run, pollMs)
}

document.addEventListener('visibilitychange', () => {
  clearTimeout(closing)
  if (!document.hidden) {
    previous = null
    return
  }
  // A developer looks at another tab, and comes back to see what became of the events.
  closing = setTimeout(() => {
    reader?.close()
    reader = null
  }, hiddenMs)
})
void run()

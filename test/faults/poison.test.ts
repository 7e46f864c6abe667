import { afterAll, beforeAll, test } from 'vitest'
import { AclOperationTypes, AclPermissionTypes, AclResourceTypes, ResourcePatternTypes } from 'kafkajs'
import { startKafka, type LocalKafka } from '../../src/local-kafka/local-kafka.ts'
import { createTopic, testClient } from '../support/independent-reader.ts'
import { atLeast, exactly } from './harness/bar.ts'
import { carriedAt, countBars, sharedBars, twoIntervalsMs, unharmedBars } from './harness/bars.ts'
import { DeviceLoad } from './harness/device-load.ts'
import { byForm, isLong } from '../support/forms.ts'
import { form, limitMs } from './harness/form.ts'
import { judge } from './harness/judge.ts'
import { fewDevices, liveThrough, usualStreams } from './harness/live-through.ts'
import { figuresOf } from './harness/report.ts'
import type { Subject } from './harness/subject.ts'

let kafka: LocalKafka
beforeAll(async () => {
  kafka = await startKafka({
    properties: {
      'authorizer.class.name': 'org.apache.kafka.metadata.authorizer.StandardAuthorizer',
      'allow.everyone.if.no.acl.found': 'true',
    },
  })
})
afterAll(async () => await kafka.stop())

/**
 * Whatever makes a broker refuse a write closes an acks=0 connection, with all that is behind it. Three streams meet such
 * a thing at the same time. At-most-once streams that have connections of their own must not notice. Those that share theirs have in doubt
 * what two intervals carry, for each of the two topics that end the connection.
 */
test.runIf(isLong).each(['shared', 'own'] as const)(
  'a topic is deleted, one is forbidden, one gets events that it does not take (%s connections)',
  { timeout: limitMs() },
  async (connection) => {
    const poisoned = { delivery: 'at-most-once', load: fewDevices } as const
    const narrow = { ...poisoned, name: 'narrow', producer: { 'max.request.size': 4 << 20 } }
    const oversize: DeviceLoad[] = []
    let doomed: string[] = []
    let forbidden: string[] = []
    let log: readonly object[] = []
    /** Of a stream of few devices. A load that was held up sends one event of each device at once, and that is more than its pace. */
    let carriedOf: (name: string) => number = () => 0
    const report = await liveThrough({
      name: `topic deleted, topic forbidden, 2 MB events to a 1 MB topic${connection === 'own' ? ' (own connections)' : ''}`,
      kafka,
      async inflict(gateways) {
        const sinceMs = performance.now() - beforeFaultMs
        doomed = topicsNamed(gateways, 'doomed')
        forbidden = topicsNamed(gateways, 'forbidden')
        for (const { gateway } of gateways) oversize.push(sendOversize(gateway.url))
        await forbid(forbidden)
        await withAdmin(async (admin) => await admin.deleteTopics({ topics: doomed }))
        const [stays] = gateways
        carriedOf = (name) =>
          Math.max(
            carriedAt(fewDevices.requestsPerSecond),
            stays.load(name).mostAccepted(twoIntervalsMs, sinceMs),
          )
        log = stays.gateway.lines
        const refusing = [stays.load('doomed'), stays.load('forbidden'), oversize[0]!]
        await Promise.all(refusing.map(async (load) => await load.untilRefused()))
      },
      lastsMs: byForm({ short: 4_000, full: 20_000 }),
      async heal() {
        await Promise.all(oversize.map(async (load) => await load.stop()))
        await permit(forbidden)
        for (const topic of doomed) await createTopic(kafka.brokers[0]!, topic)
      },
      subject: {
        connection,
        streams: [
          ...usualStreams,
          { ...poisoned, name: 'doomed' },
          { ...poisoned, name: 'forbidden' },
          narrow,
        ],
        env: { MAX_EVENT_BYTES: String(4 << 20), MAX_BODY_BYTES: String(8 << 20) },
      },
    })
    const of = (name: string) => report.streams.find(({ stream }) => stream === name)!
    judge(report.name, figuresOf(report), [
      ...countBars(report, ['doomed']),
      ...unharmedBars(of('critical')),
      ...['realtime', 'neighbour', 'narrow'].flatMap((name) =>
        connection === 'own'
          ? unharmedBars(of(name))
          : sharedBars(of(name), 2, name === 'realtime' ? carriedAt(form.ratePerSecond) : carriedOf(name)),
      ),
      ...(connection === 'own'
        ? []
        : [atLeast('lines that set the forbidden topic apart', apart(log, forbidden[0]!), 1)]),
      atLeast('doomed: refused with 503 and Retry-After', of('doomed').refusedForNow, 1),
      atLeast('forbidden: refused with 503 and Retry-After', of('forbidden').refusedForNow, 1),
      atLeast('2 MB events refused', oversize[0]!.count('refused'), 1),
      exactly('2 MB events accepted', oversize[0]!.count('accepted'), 0),
    ])
  },
)

/** What came right before the fault may be in doubt, too. */
const beforeFaultMs = 1_000

/** How many lines of a gateway's log say that a topic gets a connection of its own. */
function apart(lines: readonly object[], topic: string): number {
  return lines.filter(
    (line) => 'forSeconds' in line && 'topics' in line && (line.topics as string[]).includes(topic),
  ).length
}

function sendOversize(url: string): DeviceLoad {
  const load = new DeviceLoad({
    url,
    stream: 'narrow',
    devices: 1,
    requestsPerSecond: 3,
    eventsPerRequest: 1,
    eventBytes: 2_000_000,
  })
  load.start()
  return load
}

function topicsNamed(gateways: readonly Subject[], name: string): string[] {
  return gateways.flatMap(({ streams }) => streams.filter((s) => s.name === name).map(({ topic }) => topic))
}

async function forbid(topics: readonly string[]): Promise<void> {
  const rules = [
    { operation: AclOperationTypes.ALL, permissionType: AclPermissionTypes.ALLOW },
    { operation: AclOperationTypes.WRITE, permissionType: AclPermissionTypes.DENY },
  ]
  const acl = topics.flatMap((topic) => rules.map((rule) => ({ ...ruleFor(topic), ...rule })))
  await withAdmin(async (admin) => await admin.createAcls({ acl }))
}

async function permit(topics: readonly string[]): Promise<void> {
  const filters = topics.map((topic) => ({
    ...ruleFor(topic),
    operation: AclOperationTypes.ANY,
    permissionType: AclPermissionTypes.ANY,
  }))
  await withAdmin(async (admin) => await admin.deleteAcls({ filters }))
}

function ruleFor(topic: string) {
  return {
    resourceType: AclResourceTypes.TOPIC,
    resourceName: topic,
    resourcePatternType: ResourcePatternTypes.LITERAL,
    principal: 'User:ANONYMOUS',
    host: '*',
  }
}

async function withAdmin(
  act: (admin: ReturnType<ReturnType<typeof testClient>['admin']>) => Promise<unknown>,
): Promise<void> {
  const admin = testClient(kafka.brokers[0]!).admin()
  await admin.connect()
  try {
    await act(admin)
  } finally {
    await admin.disconnect()
  }
}

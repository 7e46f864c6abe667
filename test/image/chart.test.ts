import { createHash, randomUUID } from 'node:crypto'
import { chmodSync, chownSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { describe, expect, inject, onTestFinished, test } from 'vitest'
import { stringify } from 'yaml'
import { ConfigMap } from '../support/config-map.ts'
import { freePorts } from '../support/free-ports.ts'
import { hasHelm, render, valuesFile, type KubernetesObject } from '../support/helm.ts'
import { readTopic } from '../support/independent-reader.ts'
import type { ServedGateway } from '../support/served-gateway.ts'
import { readImage, runContainer, serveContainer, type ContainerOptions } from './container.ts'

/** The pods of the chart, started as Kubernetes would start them: the image's file system read-only, and what the pod says. */
const image = readImage(process.env['CHUTE_IMAGE']!)
const broker = inject('kafkaBroker')

interface Pod {
  readonly spec: KubernetesObject
  /** What is mounted, by the name of the volume. */
  readonly mounted: Readonly<Record<string, ConfigMap>>
  readonly options: ContainerOptions
}

/** Mounts what a pod of the chart asks for. @param dataDir stands for the volume of a claim. */
function podOf(objects: Record<string, KubernetesObject>, workload: string, dataDir?: string): Pod {
  const { spec } = objects[workload]!['spec'].template
  const [container] = spec.containers
  const mounted: Record<string, ConfigMap> = {}
  for (const { name, configMap, secret } of spec.volumes ?? []) {
    if (configMap !== undefined)
      mounted[name] = new ConfigMap(objects[`ConfigMap/${configMap.name}`]!['data'])
    if (secret !== undefined)
      mounted[name] = new ConfigMap(objects[`Secret/${secret.secretName}`]!['stringData'])
  }
  const volumes = Object.fromEntries(
    container.volumeMounts.map(({ name, mountPath }: { name: string; mountPath: string }) => [
      mountPath,
      mounted[name]?.folder ?? dataDir,
    ]),
  )
  const env = Object.fromEntries(
    container.env.map(({ name, value }: { name: string; value: string }) => [name, value]),
  )
  const { runAsUser, runAsGroup } = spec.securityContext
  return { spec, mounted, options: { user: `${runAsUser}:${runAsGroup}`, env, volumes } }
}

/** Starts the gateway of a pod, on free ports in place of those of the pod: the test has the machine's network. */
async function serve({ options, spec }: Pod): Promise<ServedGateway> {
  const [port, adminPort] = await freePorts(2)
  const env = { ...options.env, PORT: String(port), ADMIN_PORT: String(adminPort), DRAIN_DELAY_MS: '0' }
  const gateway = await serveContainer(image, { ...options, env })
  const { startupProbe, livenessProbe, readinessProbe } = spec['containers'][0]
  for (const { httpGet } of [startupProbe, livenessProbe, readinessProbe]) {
    expect(httpGet.port).toBe('admin')
    // The broker may be found a moment later.
    while (!(await fetch(gateway.adminUrl + httpGet.path)).ok) await pause(50)
  }
  return gateway
}

async function post({ url }: ServedGateway, stream: string, key: string | null = null): Promise<number> {
  const headers = key === null ? {} : { 'x-chute-key': key }
  const body = '{"name":"room.temperature","value":21.5}'
  return (await fetch(`${url}/v1/streams/${stream}`, { method: 'POST', body, headers })).status
}

/** A folder as a volume is for a pod with `fsGroup`. */
function newVolume(group: number): string {
  const folder = mkdtempSync(join(tmpdir(), 'chute-volume-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  chownSync(folder, 0, group)
  chmodSync(folder, 0o2775)
  return folder
}

const keysOf = (...names: string[]) =>
  Object.fromEntries(
    names.map((name) => [
      name,
      { kind: 'secret', sha256: [createHash('sha256').update(name).digest('hex')], streams: ['*'] },
    ]),
  )

describe.skipIf(!hasHelm)('a pod of the chart', () => {
  test.each(['as the chart has it', 'of any other user'])(
    'of the Deployment, %s, is ready and takes events, and a change of its keys without a restart',
    async (user) => {
      const topic = `chart-${randomUUID()}`
      const values = valuesFile({
        kafka: { brokers: [broker] },
        config: { streams: { web: { topic, delivery: 'at-most-once' } } },
        keys: { entries: keysOf('first') },
      })
      const pod = podOf(render(values), 'Deployment/chute')
      const options = user === 'of any other user' ? { ...pod.options, user: '54321:0' } : pod.options
      const gateway = await serve({ ...pod, options })
      expect([await post(gateway, 'web'), await post(gateway, 'web', 'second')]).toEqual([401, 401])
      expect(await post(gateway, 'web', 'first')).toBe(202)
      while ((await readTopic(broker, topic)).length === 0) await pause(100)

      pod.mounted['keys']!.swap({ 'keys.yaml': stringify({ keys: keysOf('second') }) })
      while ((await post(gateway, 'web', 'second')) !== 202) await pause(50)
      expect(await post(gateway, 'web', 'first')).toBe(401)
      gateway.signal('SIGTERM')
      expect(await gateway.ended()).toBe(0)
    },
  )

  test('of the StatefulSet leaves nothing on its disk, and the Job sends what a pod that was killed has left', async () => {
    const topic = `chart-${randomUUID()}`
    const config = { streams: { orders: { topic, delivery: 'at-least-once' } } }
    const withBrokers = (brokers: string[]) =>
      valuesFile({
        kafka: { brokers },
        config,
        open: true,
        // Where a login at Kafka can stand, as in ci/msk-iam-values.yaml.
        settings: { KAFKA_METADATA_MAX_AGE_MS: 2_000_000 },
        persistence: { enabled: true },
        drain: { claims: ['data-chute-7'] },
      })
    const dataDir = newVolume(1000)
    const objects = render(withBrokers(['127.0.0.1:1']))
    const { options } = podOf(objects, 'StatefulSet/chute', dataDir)
    const [port, adminPort] = await freePorts(2)
    // Whether the folder is on a disk is another test's.
    const env = {
      ...options.env,
      PORT: String(port),
      ADMIN_PORT: String(adminPort),
      CHUTE_DATA_DIR_EPHEMERAL: 'true',
    }
    const killed = await serveContainer(image, { ...options, env })
    expect(await post(killed, 'orders')).toBe(202)
    killed.signal('SIGKILL')
    await killed.ended()

    const later = render(withBrokers([broker]))
    const job = Object.keys(later).find((name) => name.startsWith('Job/'))!
    // The template of a Job cannot be changed.
    expect(objects).not.toHaveProperty([job])
    const drain = podOf(later, job, dataDir)
    expect(drain.options.env).toMatchObject({ KAFKA_METADATA_MAX_AGE_MS: '2000000' })
    const command = drain.spec['containers'][0].command as string[]
    const { code, stderr } = await runContainer(image, { ...drain.options, command })
    expect([code, stderr]).toEqual([0, ''])
    expect(await readTopic(broker, topic)).toHaveLength(1)
  })
})

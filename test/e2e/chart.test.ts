import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { loadConfig } from '../../src/config/load-config.ts'
import { makeAuthority } from '../support/certificates.ts'
import { isLong } from '../support/forms.ts'
import {
  chartFolder,
  hasHelm,
  hasValidator,
  lint,
  render,
  template,
  validate,
  valueFiles,
  valuesFile,
  type KubernetesObject,
} from '../support/helm.ts'

/** Kinds of others, whose schemas the validator does not have. */
const foreignKinds = new Set(['HTTPRoute', 'ServiceMonitor', 'PodMonitor', 'PrometheusRule'])
const plain = valueFiles['plain']!

function podOf(objects: Record<string, KubernetesObject>): KubernetesObject {
  return (objects['Deployment/chute'] ?? objects['StatefulSet/chute'])!['spec'].template as KubernetesObject
}

function environmentOf(pod: KubernetesObject): Record<string, string> {
  const env = pod['spec'].containers[0].env as { name: string; value: string }[]
  return Object.fromEntries(env.map(({ name, value }) => [name, value]))
}

const authority = makeAuthority()
const pair = authority.issue('chute')

/** A file of the pod: of the chart's own objects, or as an operator would have made it. */
function mounted(path: string, objects: Record<string, KubernetesObject>): string {
  const name = path.slice(path.lastIndexOf('/') + 1)
  for (const { data, stringData } of Object.values(objects)) {
    const text: unknown = { ...data, ...stringData }[name]
    if (typeof text === 'string') return text
  }
  if (name === 'keys.yaml')
    return `keys: { web: { kind: secret, sha256: [${'ab'.repeat(32)}], streams: ['*'] } }`
  if (name.endsWith('.crt')) return name === 'ca.crt' ? authority.ca : pair.cert
  return name.endsWith('.key') ? pair.key : 'a text of the Secret'
}

describe.runIf(hasHelm && isLong)('the chart', () => {
  describe.each(Object.entries(valueFiles))('with the values of %s', (_name, file) => {
    test('passes the linter, and Kubernetes takes what it makes', ({ skip }) => {
      const { code, stdout, stderr } = lint(file)
      expect(code, stdout + stderr).toBe(0)
      const objects = Object.values(render(file))
      skip(!hasValidator, 'kubernetes-validate is not installed')
      const known = objects.filter(({ kind }) => !foreignKinds.has(kind))
      const verdict = validate(known)
      expect(verdict.code, verdict.stdout + verdict.stderr).toBe(0)
      expect(verdict.stdout.match(/passed/g)).toHaveLength(known.length)
    })

    test('gives the gateway an environment that it takes', () => {
      const objects = render(file)
      const env = Object.entries(environmentOf(podOf(objects))).map(([name, value]) => [
        name,
        value ?? 'secret',
      ])
      const read = (path: string): string => mounted(path, objects)
      expect(
        loadConfig(Object.fromEntries(env) as NodeJS.ProcessEnv, read).kafka.brokers.length,
      ).toBeGreaterThan(0)
    })

    test('runs no container as root, or with rights that it does not need', () => {
      const workloads = Object.values(render(file)).filter((each) => each['spec']?.template !== undefined)
      expect(workloads.length).toBeGreaterThan(0)
      for (const { spec } of workloads) {
        const pod = spec.template.spec
        expect(pod).toMatchObject({
          automountServiceAccountToken: false,
          enableServiceLinks: false,
          securityContext: {
            runAsNonRoot: true,
            runAsUser: 1000,
            seccompProfile: { type: 'RuntimeDefault' },
          },
        })
        for (const { securityContext } of pod.containers)
          expect(securityContext).toEqual({
            allowPrivilegeEscalation: false,
            readOnlyRootFilesystem: true,
            capabilities: { drop: ['ALL'] },
          })
      }
    })

    test('mounts folders and no single files, so that a change arrives', () => {
      const { volumeMounts, env } = podOf(render(file))['spec'].containers[0]
      expect(volumeMounts.filter((each: object) => 'subPath' in each)).toEqual([])
      const paths = (env as { name: string; value: string }[])
        .filter(({ name }) => name.endsWith('_FILE') || name === 'CHUTE_CONFIG')
        .map(({ value }) => value)
      const folders = new Set(volumeMounts.map(({ mountPath }: { mountPath: string }) => mountPath))
      expect(paths.filter((path) => !folders.has(path.slice(0, path.lastIndexOf('/'))))).toEqual([])
    })

    test('gives the pod longer to end than everything that the gateway does at its end', () => {
      const pod = podOf(render(file))
      const env = environmentOf(pod)
      const preStop = Number(pod['spec'].containers[0].lifecycle?.preStop.exec.command[1] ?? 0)
      const drainMs =
        Number(env['DRAIN_DELAY_MS']) +
        Number(env['SHUTDOWN_TIMEOUT_MS']) +
        Number(env['SPOOL_DRAIN_TIMEOUT_MS'] ?? 0)
      expect(pod['spec'].terminationGracePeriodSeconds).toBeGreaterThan(preStop + drainMs / 1000)
    })
  })

  test('makes a Deployment without volumes, or a StatefulSet whose volumes outlive it', () => {
    expect(Object.keys(render(plain)).toSorted()).toEqual([
      'ConfigMap/chute-process',
      'Deployment/chute',
      'PodDisruptionBudget/chute',
      'Service/chute',
      'Service/chute-admin',
      'ServiceAccount/chute',
    ])
    const durable = render(valueFiles['durable-leaving']!)
    expect(durable['StatefulSet/chute']!['spec']).toMatchObject({
      serviceName: 'chute-pods',
      persistentVolumeClaimRetentionPolicy: { whenScaled: 'Retain', whenDeleted: 'Retain' },
    })
    expect(environmentOf(podOf(durable))).toMatchObject({
      CHUTE_DATA_DIR: '/data',
      SPOOL_DRAIN_TIMEOUT_MS: '30000',
      WORKERS: '2',
    })
    const jobs = Object.values(durable).filter(({ kind }) => kind === 'Job')
    expect(jobs.map(({ spec }) => spec.template.spec.volumes[0].persistentVolumeClaim.claimName)).toEqual([
      'data-chute-2',
      'data-chute-3',
    ])
    for (const { spec } of jobs)
      expect(spec.template.spec.containers[0].command).toEqual([
        'node',
        'dist/main.js',
        'drain',
        '--data-dir',
        '/data',
      ])
  })

  test('keeps metrics and live page off the Service that the world may reach', () => {
    const { 'Service/chute': events, 'Service/chute-admin': admin } = render(valueFiles['redpanda']!)
    expect(events!['spec']).toMatchObject({ type: 'LoadBalancer', ports: [{ targetPort: 'http' }] })
    expect(events!['spec'].ports).toHaveLength(1)
    expect(admin!['spec']).toMatchObject({ type: 'ClusterIP', ports: [{ targetPort: 'admin' }] })
  })

  test('scales by CPU, and leaves the number of replicas to the autoscaler then', () => {
    const objects = render(valueFiles['confluent']!)
    expect(objects['HorizontalPodAutoscaler/chute']!['spec'].metrics).toEqual([
      {
        type: 'Resource',
        resource: { name: 'cpu', target: { type: 'Utilization', averageUtilization: 70 } },
      },
    ])
    expect(objects['Deployment/chute']!['spec']).not.toHaveProperty('replicas')
  })

  test('gives Prometheus the rules of the project, and Grafana its dashboard', () => {
    const objects = render(valueFiles['strimzi']!)
    expect(objects['PrometheusRule/chute']!['spec']).toEqual(
      parse(readFileSync('deploy/prometheus/rules/chute.yml', 'utf8')),
    )
    expect(JSON.parse(objects['ConfigMap/chute-dashboard']!['data']['chute.json'])).toEqual(
      JSON.parse(readFileSync('deploy/grafana/dashboards/chute.json', 'utf8')),
    )
    const { selector, endpoints } = objects['ServiceMonitor/chute']!['spec']
    expect(objects['Service/chute-admin']!.metadata).toMatchObject({ labels: selector.matchLabels })
    expect(objects['Service/chute']!.metadata).not.toMatchObject({ labels: selector.matchLabels })
    // With the namespace: the rules add up by job.
    const relabelings = [{ targetLabel: 'job', replacement: 'events/chute' }]
    expect(endpoints).toMatchObject([{ port: 'admin', path: '/metrics', relabelings }])
  })

  test.each([
    [{ open: true }, 'kafka.brokers is empty'],
    [{ kafka: { brokers: ['k:9092'] } }, 'The gateway needs keys'],
    [{ kafka: { brokers: ['kafka'] }, open: true }, '/kafka/brokers/0'],
    [{ kafka: { brokers: ['k:1'], sasl: { mechanism: 'plain' } }, open: true }, 'kafka.sasl.secret is empty'],
    [{ kafka: { brokers: ['k:1'], sasl: { mechanism: 'PLAIN' } }, open: true }, '/kafka/sasl/mechanism'],
    [{ kafka: { brokers: ['k:1'] }, open: true, tls: { enabled: true } }, 'tls.secret is empty'],
    [{ kafka: { brokers: ['k:1'] }, open: true, replicas: 3 }, 'replicas'],
    [{ kafka: { brokers: ['k:1'] }, open: true, settings: { rate: 3 } }, "invalid propertyName 'rate'"],
    [
      { kafka: { brokers: ['k:1'] }, open: true, httpRoute: { enabled: true } },
      'httpRoute.parentRefs is empty',
    ],
    [{ kafka: { brokers: ['k:1'] }, open: true, ingress: { enabled: true } }, 'ingress.hosts is empty'],
  ])('refuses the values %j', (values, reason) => {
    const { code, stderr } = template(valuesFile(values))
    expect(code).not.toBe(0)
    expect(stderr).toContain(reason)
  })

  test('has the version of the package', () => {
    const { version, appVersion } = parse(readFileSync(`${chartFolder}/Chart.yaml`, 'utf8')) as Record<
      string,
      string
    >
    const { version: released } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string }
    expect([version, appVersion]).toEqual([released, released])
  })
})

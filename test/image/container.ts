import { spawn, type ChildProcessByStdio } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync, realpathSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { onTestFinished } from 'vitest'
import { followGateway, type ServedGateway } from '../support/served-gateway.ts'

/** The part of an image's configuration that says how a container starts, in Docker's names. */
export interface ImageConfig {
  readonly User: string
  readonly Env: readonly string[]
  readonly Entrypoint: readonly string[] | null
  readonly Cmd: readonly string[] | null
  readonly WorkingDir: string
  readonly StopSignal: string
  readonly Volumes: Readonly<Record<string, object>> | null
  readonly Healthcheck?: { readonly Test: readonly string[] }
}

/** An image as `test/image/build` leaves it. */
export interface Image {
  /** The file system of the image. */
  readonly root: string
  /** The file system of the image that it is built on. */
  readonly base: string
  readonly config: ImageConfig
}

/** Reads the folder that `test/image/build` has made. */
export function readImage(folder: string): Image {
  const config = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8')) as ImageConfig
  return { root: realpathSync(join(folder, 'root')), base: join(folder, 'base'), config }
}

/** What is set for one container, as `docker run` has options for it. */
export interface ContainerOptions {
  /** `uid:gid`; the image's user unless set. */
  readonly user?: string
  /** Added to the image's own environment. */
  readonly env?: Readonly<Record<string, string>>
  /** In place of the image's command. The image's entry point stays. */
  readonly command?: readonly string[]
  /** Folders of this machine, by the path that the container has them at. They can be written to. */
  readonly volumes?: Readonly<Record<string, string>>
  /**
   * `read-only` unless set, as with `docker run --read-only`. `overlay` is what `docker run` gives: an overlayfs that can be
   * written to and that goes with the container.
   */
  readonly rootFileSystem?: 'read-only' | 'overlay'
}

/** How a container ended, and what it wrote. */
export interface ContainerEnd {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/**
 * Runs as root in a mount and a process namespace of its own, in which nothing outlives it: mounts the image's file system
 * and what a container has besides (/proc, /dev, its volumes), and becomes the image's process 1. The image stays as it is, but for places of volumes that it has not, while the test lasts.
 * Arguments: root, kind of its file system, user, working directory, then pairs of volume and path up to `--`, then variables and the command for env.
 */
const becomeContainer = `
set -eu
root=$1 kind=$2 user=$3 folder=$4; shift 4
if [ "$kind" = overlay ]; then
  above="$root/media"
  mount -t tmpfs tmpfs "$above"
  mkdir "$above/upper" "$above/work" "$above/root"
  mount -t overlay overlay -o "lowerdir=$root,upperdir=$above/upper,workdir=$above/work" "$above/root"
  root="$above/root"
else
  mount --bind "$root" "$root"
  mount -o remount,bind,ro "$root"
fi
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
while [ "$1" != -- ]; do mount --bind "$1" "$root$2"; shift 2; done
shift
exec chroot --userspec="$user" --groups="\${user#*:}" "$root" /usr/bin/env --ignore-environment --chdir="$folder" "$@"
`

/** A container that runs. The end of the test ends it. */
export interface Container {
  readonly process: ChildProcessByStdio<null, Readable, Readable>
  /** Sends a signal to process 1 of the container. */
  signal(name: NodeJS.Signals): void
}

/** Starts a container of the image, on this machine's network. */
export function startContainer({ root, config }: Image, options: ContainerOptions = {}): Container {
  const { user = config.User, env = {}, command = config.Cmd ?? [], volumes = {} } = options
  const { rootFileSystem = 'read-only' } = options
  // As container engines do, in a layer of the container's own.
  for (const path of Object.keys(volumes)) {
    const made = mkdirSync(join(root, path), { recursive: true })
    if (made !== undefined) onTestFinished(() => rmSync(made, { recursive: true }))
  }
  const mounts = Object.entries(volumes).flatMap(([path, folder]) => [folder, path])
  const variables = [...config.Env, ...Object.entries(env).map(([name, value]) => `${name}=${value}`)]
  const program = [...(config.Entrypoint ?? []), ...command]
  const first = [root, rootFileSystem, user, config.WorkingDir]
  const becoming = ['bash', '-c', becomeContainer, 'container', ...first]
  const child = spawn(
    'unshare',
    ['--mount', '--pid', '--fork', '--kill-child', ...becoming, ...mounts, '--', ...variables, ...program],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  )
  onTestFinished(() => void child.kill('SIGKILL'))
  return {
    process: child,
    signal(name) {
      // Process 1 of the container is the only child of `unshare`.
      const children = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8')
      process.kill(Number(children.trim()), name)
    },
  }
}

/** Starts `chute serve` as a container, and waits until it listens: on a free port, unless `env` sets one. */
export async function serveContainer(image: Image, options: ContainerOptions = {}): Promise<ServedGateway> {
  const container = startContainer(image, {
    ...options,
    env: { PORT: '0', DRAIN_DELAY_MS: '0', ...options.env },
  })
  container.process.stderr.pipe(process.stderr)
  return await followGateway(container.process, (name) => container.signal(name))
}

/** Runs a container to its end. */
export async function runContainer(image: Image, options: ContainerOptions): Promise<ContainerEnd> {
  const { process: child } = startContainer(image, options)
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')])
  return { code: child.exitCode, stdout, stderr }
}

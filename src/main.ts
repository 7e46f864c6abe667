#!/usr/bin/env node
import { leave } from './disk-calls.ts'

/** The command line. A command is loaded when it is called, so that `chute kafka` needs no gateway. */
const help = `usage: chute <command>

  serve            the gateway; settings come from the environment and from the file in CHUTE_CONFIG
  consume          reads a topic as a member of a group: --topic T --group G [--exec CMD | --http URL | --stdout]
  audit            reads a topic and says what is lost, duplicated or out of order: --topic T [--gateway URL]
  drain            sends what a data folder holds, and ends: --data-dir D
  check            prints the effective configuration with secrets masked, or all that is wrong with it; --connect looks
                   at Kafka too
  doctor           looks at everything that a gateway needs (configuration, machine, brokers, topics, rights, clock), and says what
                   is wrong and what would be right
  tail             shows events that a gateway takes and refuses, each as it comes: --stream S [--rejected]
  keys             makes the keys that clients send, and says what a key may do: new, list, check
  kafka            a local Apache Kafka in the foreground; --nodes N for a small cluster

  --help, -h       this page; behind a command, its options
  --version, -v    the version

Exit codes: 0 done; 1 failed, or accepted records were lost at shutdown; 2 a command or an option that
there is not.
`

async function run([command, ...argv]: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  switch (command) {
    case 'serve':
      return await (await import('./commands/serve-command.ts')).runServeCommand(argv, env)
    case 'consume':
      return await (await import('./commands/consume-command.ts')).runConsumeCommand(argv, env)
    case 'audit':
      return await (await import('./commands/audit-command.ts')).runAuditCommand(argv, env)
    case 'drain':
      return await (await import('./commands/drain-command.ts')).runDrainCommand(argv, env)
    case 'check':
      return await (await import('./commands/check-command.ts')).runCheckCommand(argv, env)
    case 'doctor':
      return await (await import('./commands/doctor-command.ts')).runDoctorCommand(argv, env)
    case 'tail':
      return await (await import('./commands/tail-command.ts')).runTailCommand(argv, env)
    case 'keys':
      return await (await import('./commands/keys-command.ts')).runKeysCommand(argv, env)
    case 'kafka':
      return await (await import('./commands/kafka-command.ts')).runKafkaCommand(argv, env)
    case '--version':
    case '-v':
      process.stdout.write(`${(await import('./version.ts')).version}\n`)
      return 0
    case '--help':
    case '-h':
    case 'help':
      process.stdout.write(help)
      return 0
    default:
      process.stderr.write(command === undefined ? help : `chute has no command ${command}\n\n${help}`)
      return 2
  }
}

// Open connections and timers, such as reconnects to Kafka, must not hold up a process that has written its last line.
await leave(await run(process.argv.slice(2), process.env))

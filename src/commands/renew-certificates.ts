import {
  type Certificates,
  certificatesOf,
  ownCertificates,
  rereadCertificates,
  warningsOfCertificates,
} from '../config/certificates.ts'
import type { Config } from '../config/config.ts'
import { readTextFile } from '../config/load-config.ts'
import { watchFiles } from '../config/watch-files.ts'
import type { Logger } from '../logger.ts'
import type { HangUps } from './process.ts'

/**
 * Reads the files of the certificates again when they change, and at SIGHUP. Those that are new and good are put to use, and those
 * that are not are logged: then the old ones go on. Does nothing where no certificate is in a file.
 */
export function renewCertificates(
  config: Config,
  { logger, hangUps, use }: { logger: Logger; hangUps: HangUps; use: (certificates: Certificates) => void },
): void {
  const { pemFiles } = config
  const paths = Object.values(pemFiles)
  if (paths.length === 0) return
  let current = certificatesOf(config)
  const renew = (signal: 'SIGHUP' | null): void => {
    const { certificates, renewed, problems } = rereadCertificates(current, pemFiles, readTextFile)
    for (const { path, problem, remedy } of problems)
      logger.error(
        { setting: path, problem, remedy },
        'new certificates cannot be used, and the old ones go on',
      )
    if (renewed.length > 0) {
      current = certificates
      use(certificates)
      const own = ownCertificates(certificates, pemFiles).map(({ variable, subject, notAfterMs }) => ({
        setting: variable,
        subject,
        notAfter: new Date(notAfterMs).toISOString(),
      }))
      logger.info({ renewed, certificates: own }, 'certificates were renewed')
      for (const warning of warningsOfCertificates(ownCertificates(certificates, pemFiles)))
        logger.warn({}, warning)
    } else if (signal !== null && problems.length === 0)
      logger.info({ signal }, 'SIGHUP: the files of the certificates have nothing new')
  }
  watchFiles(paths, () => renew(null))
  hangUps.onHangUp(() => renew('SIGHUP'))
  // They may have changed since they were read, which was before anybody watched.
  renew(null)
}

import * as fc from 'fast-check'
import { seed } from './seed.ts'

/** Before each file with tests: every property of the file has this seed, which fast-check prints if a property fails. */
fc.configureGlobal({ seed })

/** What is used of it: advisory locks of an open file, which end with the process that holds them. */
declare module 'fs-native-extensions' {
  /** @returns false if somebody else has the lock. */
  export function tryLock(fd: number): boolean
  export function unlock(fd: number): void
}

/** The part of fs-native-extensions that is used: advisory locks of an open file, which end with the process that holds them. */
declare module 'fs-native-extensions' {
  /** @returns false if another process has the lock. */
  export function tryLock(fd: number): boolean
}

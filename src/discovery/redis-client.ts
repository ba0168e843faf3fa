// What is used of the package `redis`, which is an optional peer: it is loaded when a discovery is opened, not when this
// file is. Declared here, so that whoever compiles against our types does not need those of the package.

import { KommanderError } from '../base/errors.ts';

/** What the package exports. */
export interface RedisBinding {
  createClient(options: {
    readonly url: string;
    readonly socket: { readonly reconnectStrategy: false; readonly connectTimeout: number };
    readonly disableOfflineQueue: true;
    readonly commandsQueueMaxLength: number;
  }): RedisClient;
}

export interface RedisClient {
  /** A client without a listener for errors ends the process. */
  on(event: 'error' | 'connect', listener: () => void): unknown;
  connect(): Promise<unknown>;
  sendCommand(command: readonly string[]): Promise<unknown>;
  /** What is under way rejects. Throws when the client is closed already. */
  destroy(): void;
  readonly isOpen: boolean;
}

/** Not a literal: whoever compiles against ours must not need its types. */
const packageName: string = 'redis';
const installCommand = `npm install ${packageName}`;

/**
 * Loads `redis`.
 *
 * @throws MISSING_DEPENDENCY it is not installed
 */
export async function importRedis(
  load: () => Promise<RedisBinding> = () => import(packageName),
): Promise<RedisBinding> {
  try {
    return await load();
  } catch (cause) {
    throw new KommanderError(
      `discovery through Redis needs the package ${packageName}: ${installCommand}`,
      { code: 'MISSING_DEPENDENCY', details: { install: installCommand }, cause },
    );
  }
}

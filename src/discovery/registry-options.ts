// The options that registries share: ranges and defaults, and what a URL of a registry may be.

import { isNodeId, nodeIdRule } from '../base/endpoint.ts';
import { KommanderError } from '../base/errors.ts';

/** What every registry that nodes announce themselves in needs to know. */
export interface RegistryOptions {
  /**
   * Keeps clusters in one registry apart: 1 to 64 characters of `A-Z a-z 0-9 . _ -` (default `kommander`). The same on
   * every node of a cluster.
   */
  readonly cluster?: string;
  /**
   * Milliseconds that an entry lives without being renewed, and that one which is missing is still believed: 1_000 …
   * 3_600_000 (default 15_000). It is renewed three times in that time.
   */
  readonly ttlMs?: number;
  /** Milliseconds after which a question to the registry counts as failed: 10 … 60_000 (default 3_000). */
  readonly timeoutMs?: number;
}

export interface RegistrySettings {
  readonly cluster: string;
  readonly ttlMs: number;
  readonly timeoutMs: number;
}

/** @throws INVALID_OPTION */
export function registrySettings(
  options: RegistryOptions,
  otherOptions: readonly string[],
): RegistrySettings {
  checkNames(options, ['cluster', 'ttlMs', 'timeoutMs', ...otherOptions]);
  const { cluster = 'kommander' } = options;
  if (typeof cluster !== 'string' || !isNodeId(cluster)) {
    throw invalidOption('cluster', `is "${String(cluster).slice(0, 128)}"; it is ${nodeIdRule}`);
  }
  return {
    cluster,
    ttlMs: integerOption('ttlMs', options.ttlMs, { min: 1_000, max: 3_600_000, byDefault: 15_000 }),
    timeoutMs: timeoutOption(options.timeoutMs),
  };
}

/** @throws INVALID_OPTION */
export function timeoutOption(value: number | undefined): number {
  return integerOption('timeoutMs', value, { min: 10, max: 60_000, byDefault: 3_000 });
}

/** @throws INVALID_OPTION an option has a name that is not known */
export function checkNames(options: object, names: readonly string[]): void {
  for (const name of Object.keys(options)) {
    if (!names.includes(name)) {
      throw invalidOption(name, `is not known; the options are ${[...names].sort().join(', ')}`);
    }
  }
}

/** @throws INVALID_OPTION */
export function integerOption(
  option: string,
  value: number | undefined,
  range: { readonly min: number; readonly max: number; readonly byDefault: number },
): number {
  const { min, max, byDefault } = range;
  if (value === undefined) return byDefault;
  if (Number.isSafeInteger(value) && value >= min && value <= max) return value;
  throw invalidOption(option, `is ${value}; it is a whole number from ${min} to ${max}`);
}

/**
 * Takes the URL of a registry apart.
 *
 * @param protocols those that may stand before `://`, without the colon
 * @throws INVALID_OPTION without the URL itself, which may hold a password
 */
export function registryUrl(text: string, protocols: readonly string[]): URL {
  const shown = protocols.map((protocol) => `${protocol}://host:port`).join(' or ');
  const url = typeof text === 'string' ? URL.parse(text) : null;
  if (url === null || url.hostname === '' || !protocols.includes(url.protocol.slice(0, -1))) {
    throw invalidOption('url', `is not valid: write it as ${shown}`);
  }
  return url;
}

export function invalidOption(option: string, what: string): KommanderError {
  return new KommanderError(`option ${option} ${what}`, {
    code: 'INVALID_OPTION',
    details: { option },
  });
}

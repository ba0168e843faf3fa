// What the tests of real servers share: options, waiting for a condition with a deadline that fails.

import type { ServeOptions } from '../src/server/serve-options.ts';

export function serveOptions(
  nodeId: string,
  members: Readonly<Record<string, string>>,
  changes: Partial<ServeOptions> = {},
): ServeOptions {
  return {
    nodeId,
    members,
    listen: members[nodeId] ?? '',
    advertise: members[nodeId] ?? '',
    discovery: 'static',
    http: '127.0.0.1:0',
    data: undefined,
    wal: 'memory',
    partitions: 4,
    tickMs: 20,
    electionTicks: 20,
    checkpointBytes: 67_108_864,
    snapshotsFrom: 'leader',
    logLevel: 'warn',
    stopWithParent: false,
    ...changes,
  };
}

/** Waits until `condition` holds; throws with `what` after a minute, which no healthy run needs. */
export async function eventually(
  what: string,
  condition: () => boolean | Promise<boolean>,
): Promise<void> {
  const endMs = performance.now() + 60_000;
  while (!(await condition())) {
    if (performance.now() > endMs) throw new Error(`it did not happen: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

/** The JSON of a node's status, or undefined while it does not answer. */
export async function statusOf(url: string): Promise<StatusJson | undefined> {
  try {
    const response = await fetch(`${url}/v1/status`);
    return response.ok ? ((await response.json()) as StatusJson) : undefined;
  } catch (error) {
    if (error instanceof TypeError) return undefined;
    throw error;
  }
}

export interface StatusJson {
  readonly node: string;
  readonly state: string;
  readonly diskFull: boolean;
  readonly wal: { readonly syncCount: number };
  readonly partitions: readonly {
    readonly partition: number;
    readonly role: string;
    readonly term: number;
    readonly leader: string | null;
    readonly commitIndex: number;
    readonly lastApplied: number;
    readonly lastIndex: number;
    readonly compactedIndex: number;
    readonly keys: number | null;
  }[];
}

export async function isReady(url: string): Promise<boolean> {
  try {
    return (await fetch(`${url}/readyz`)).ok;
  } catch (error) {
    if (error instanceof TypeError) return false;
    throw error;
  }
}

// Machines with a network of their own, as far as the system can pretend: network namespaces that hang on bridges, without
// a default route. And whether this machine carries multicast. Not every machine gives the rights; then a test is skipped
// and says why, unless KOMMANDER_NETWORK_FAULTS=required asks for it to fail.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import type { TestContext } from 'node:test';
import { isKommanderError } from '../../src/base/errors.ts';
import { loopbackMulticast } from '../../src/server/demo/multicast-check.ts';

/** One of the machines. */
export interface Namespace {
  /** In front of a command that shall run there. */
  readonly command: readonly string[];
  /** Of its interfaces `eth0`, `eth1`, …, each on another bridge. */
  readonly ipv4: readonly string[];
  readonly ipv6: readonly string[];
  /** Pulls the plug of an interface, or puts it back. */
  setPlugged(network: number, isPlugged: boolean): void;
}

/** Machines on one network or several, for the time of the test; undefined when the test is skipped. */
export function networkNamespaces(
  t: TestContext,
  { machines, networks = 1 }: { readonly machines: number; readonly networks?: number },
): readonly Namespace[] | undefined {
  const prefix = `kommander-${process.pid}`;
  const bridges = `${prefix}-bridges`;
  const names = Array.from({ length: machines }, (_, at) => `${prefix}-${at + 1}`);
  const probe = spawnSync('ip', ['netns', 'add', bridges]);
  if (probe.status !== 0) {
    const reason = probe.error?.message ?? String(probe.stderr).trim();
    skip(t, `no network namespace can be made: ${reason}`);
    return undefined;
  }
  t.after(() => {
    for (const name of [...names, bridges]) spawnSync('ip', ['netns', 'del', name]);
  });
  const numbers = Array.from({ length: networks }, (_, network) => network);
  for (const network of numbers) {
    ip(bridges, `link add br${network} type bridge mcast_snooping 0`);
    ip(bridges, `link set br${network} up`);
  }
  return names.map((name, at) => {
    run('ip', ['netns', 'add', name]);
    ip(name, 'link set lo up');
    const ipv4 = numbers.map((network) => `10.77.${network}.${at + 1}`);
    const ipv6 = numbers.map((network) => `fd77:0:0:${network}::${at + 1}`);
    for (const network of numbers) {
      ip(bridges, `link add plug${at}-${network} type veth peer name eth${network} netns ${name}`);
      ip(bridges, `link set plug${at}-${network} master br${network} up`);
      ip(name, `addr add ${ipv4[network]}/24 dev eth${network}`);
      // No search for the address elsewhere: it would not be usable for a second or two.
      ip(name, `addr add ${ipv6[network]}/64 dev eth${network} nodad`);
      ip(name, `link set eth${network} up`);
    }
    return {
      command: ['ip', 'netns', 'exec', name],
      ipv4,
      ipv6,
      setPlugged: (network, isPlugged) =>
        ip(bridges, `link set plug${at}-${network} ${isPlugged ? 'up' : 'down'}`),
    };
  });
}

/** The `--discovery` of nodes that find each other on the loopback interface; undefined when the test is skipped. */
export async function multicastOf(t: TestContext): Promise<string | undefined> {
  try {
    return await loopbackMulticast();
  } catch (error) {
    if (!isKommanderError(error, 'DISCOVERY_FAILED')) throw error;
    skip(t, error.message);
    return undefined;
  }
}

function skip(t: TestContext, problem: string): void {
  if (process.env.KOMMANDER_NETWORK_FAULTS === 'required') assert.fail(problem);
  t.skip(problem);
}

function ip(namespace: string, command: string): void {
  run('ip', ['-n', namespace, ...command.split(' ')]);
}

function run(command: string, parameters: readonly string[]): void {
  const { status, stderr } = spawnSync(command, parameters);
  assert.equal(status, 0, `${command} ${parameters.join(' ')}: ${String(stderr)}`);
}

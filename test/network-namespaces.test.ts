// Nodes on machines of their own, without a default route: they find each other by multicast over IPv4 and IPv6, form
// their cluster, and lose and find whoever was unplugged.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { must } from '../src/base/assert.ts';
import type { MulticastOptions } from '../src/discovery/multicast.ts';
import type { MulticastNodeOptions, MulticastNodeReport } from './fixtures/multicast-node.ts';
import { eventually } from './server-support.ts';
import { type Namespace, networkNamespaces } from './support/network-namespaces.ts';

const fixture = fileURLToPath(new URL('fixtures/multicast-node.ts', import.meta.url));

interface RunningNode {
  readonly nodeId: string;
  readonly child: ChildProcess;
  /** What discovery last reported, as `id@endpoint …`. */
  found: string;
  leader: string | undefined;
  readonly entries: string[];
  readonly events: string[];
}

function startNode(t: TestContext, machine: Namespace, options: MulticastNodeOptions): RunningNode {
  const [command = '', ...before] = machine.command;
  const rest = [...before, process.execPath, fixture, JSON.stringify(options)];
  const child = spawn(command, rest, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  t.after(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
  });
  const node: RunningNode = {
    nodeId: options.nodeId,
    child,
    found: '',
    leader: undefined,
    entries: [],
    events: [],
  };
  child.on('message', (said: MulticastNodeReport) => {
    if (said.kind === 'found') {
      node.found = said.nodes.map(({ nodeId, endpoint }) => `${nodeId}@${endpoint}`).join(' ');
    } else if (said.kind === 'leader') node.leader = said.leader;
    else if (said.kind === 'entry') node.entries.push(said.text);
    else node.events.push(said.name);
  });
  return node;
}

/** a, b and c on machines of their own. */
function startThree(
  t: TestContext,
  machines: readonly Namespace[],
  settings: {
    readonly multicast: (machine: Namespace) => MulticastOptions;
    readonly listen: (machine: Namespace) => string;
  },
): readonly RunningNode[] {
  const members = ['a', 'b', 'c'];
  return members.map((nodeId, at) => {
    const machine = must(machines[at], 'every node has a machine');
    const [multicast, listen] = [settings.multicast(machine), settings.listen(machine)];
    return startNode(t, machine, { nodeId, members, listen, multicast });
  });
}

async function allHave(nodes: readonly RunningNode[], text: string): Promise<void> {
  must(nodes[0], 'there are nodes').child.send(text);
  await eventually(`all have ${text}`, () => nodes.every(({ entries }) => entries.includes(text)));
}

const secrets = ['the secret of these machines'];
/** Quicker than by default: a test waits for silence. */
const quick = { intervalMs: 200, expiryMs: 1_500 };

test('machines on one network form a cluster by multicast, lose who is unplugged, and find it again', async (t) => {
  const machines = networkNamespaces(t, { machines: 4 });
  if (machines === undefined) return;
  const nodes = startThree(t, machines, {
    listen: ({ ipv4 }) => `${ipv4[0]}:8001`,
    multicast: ({ ipv4: [address = ''] }) => ({ ...quick, interfaces: [address], secrets }),
  });
  const everybody = 'a@10.77.0.1:8001 b@10.77.0.2:8001 c@10.77.0.3:8001';
  await eventually('all are found', () => nodes.every(({ found }) => found === everybody));
  await eventually('all know the leader', () => nodes.every(({ leader }) => leader !== undefined));
  await allHave(nodes, 'one');

  // Another cluster with the same ids, and one that wants to take part and has no secret.
  const machine = must(machines[3], 'there is a fourth machine');
  const other = startNode(t, machine, {
    nodeId: 'a',
    members: ['a'],
    listen: `${machine.ipv4[0]}:8001`,
    multicast: { interfaces: ['eth0'], cluster: 'other' },
  });
  const intruder = startNode(t, machine, {
    nodeId: 'd',
    members: ['a', 'b', 'c', 'd'],
    listen: `${machine.ipv4[0]}:8002`,
    multicast: { interfaces: ['eth0'] },
  });
  await eventually('the other cluster forms', () => other.leader === 'a');
  await eventually('the intruder is told of', () =>
    nodes.every(({ events }) => events.includes('announcement-refused')),
  );
  assert.equal(other.found, `a@${machine.ipv4[0]}:8001`);
  assert.equal(intruder.leader, undefined);

  machines[2]?.setPlugged(0, false);
  await eventually('c has expired', () => nodes[0]?.found === everybody.replace(/ c@.*/, ''));
  await eventually('c hears only itself', () => nodes[2]?.found === 'c@10.77.0.3:8001');
  await allHave(nodes.slice(0, 2), 'two');
  machines[2]?.setPlugged(0, true);
  await eventually('all are found again', () => nodes.every(({ found }) => found === everybody));
  await allHave(nodes, 'three');
  assert.ok(nodes.every(({ events }) => !events.includes('node-id-claimed-twice')));
});

test('machines form a cluster by an IPv6 group', async (t) => {
  const machines = networkNamespaces(t, { machines: 3 });
  if (machines === undefined) return;
  const nodes = startThree(t, machines, {
    listen: ({ ipv6 }) => `[${ipv6[0]}]:8001`,
    multicast: () => ({ ...quick, group: 'ff02::4b:4d44', port: 1_901 }),
  });
  const everybody = 'a@[fd77:0:0:0::1]:8001 b@[fd77:0:0:0::2]:8001 c@[fd77:0:0:0::3]:8001';
  await eventually('all are found', () => nodes.every(({ found }) => found === everybody));
  await eventually('all know the leader', () => nodes.every(({ leader }) => leader !== undefined));
  await allHave(nodes, 'one');
});

test('a machine on two networks hears each of them; a network that comes later is heard later', async (t) => {
  const machines = networkNamespaces(t, { machines: 3, networks: 2 });
  if (machines === undefined) return;
  machines[1]?.setPlugged(0, false);
  machines[2]?.setPlugged(0, false);
  machines[2]?.setPlugged(1, false);
  const nodes = startThree(t, machines, {
    listen: ({ ipv4 }) => (ipv4[0] === '10.77.0.2' ? `${ipv4[1]}:8001` : `${ipv4[0]}:8001`),
    multicast: ({ ipv4 }) =>
      ipv4[0] === '10.77.0.1' ? { ...quick, interfaces: [...ipv4] } : quick,
  });
  const [a, b, c] = ['a@10.77.0.1:8001', 'b@10.77.1.2:8001', 'c@10.77.0.3:8001'];
  await eventually('a hears b, on the second network', () => nodes[0]?.found === `${a} ${b}`);
  await eventually('c hears itself', () => nodes[2]?.found === c);
  machines[2]?.setPlugged(0, true);
  await eventually('c hears a, on the first network', () => nodes[2]?.found === `${a} ${c}`);
  await eventually('a hears both', () => nodes[0]?.found === `${a} ${b} ${c}`);
  await eventually('b hears a, and c not', () => nodes[1]?.found === `${a} ${b}`);
});

test('a machine on which nobody is heard is told of before a demo starts nodes that would wait for ever', (t) => {
  const machines = networkNamespaces(t, { machines: 1 });
  if (machines === undefined) return;
  const check = new URL('../src/server/demo/multicast-check.ts', import.meta.url).href;
  const script = `
    const socket = require('node:dgram').createSocket('udp4');
    socket.bind(1900, async () => {
      const { loopbackMulticast } = await import('${check}');
      await loopbackMulticast().catch(({ code, message }) => console.log(code, message));
      socket.close();
    });`;
  const [command = '', ...before] = machines[0]?.command ?? [];
  const { stdout } = spawnSync(command, [...before, process.execPath, '-e', script]);
  assert.match(
    String(stdout),
    /^DISCOVERY_FAILED this machine carries no multicast on 127\.0\.0\.1 \(.*EADDRINUSE.*run the demo without/,
  );
});

test('a machine with very many interfaces uses 64 of them', (t) => {
  const machines = networkNamespaces(t, { machines: 1 });
  if (machines === undefined) return;
  const [command = '', ...before] = machines[0]?.command ?? [];
  const lines = Array.from({ length: 35 }, (_, at) => [
    `link add x${at} type veth peer name y${at}`,
    ...['x', 'y'].flatMap((side, half) => [
      `addr add 10.99.${half}.${at + 1}/32 dev ${side}${at}`,
      `link set ${side}${at} up`,
    ]),
  ]);
  const made = spawnSync(command, [...before, 'ip', '-batch', '-'], {
    input: lines.flat().join('\n'),
  });
  assert.equal(made.status, 0, String(made.stderr));
  const sockets = new URL('../src/discovery/multicast-sockets.ts', import.meta.url).href;
  const script = `
    const { networkInterfaces } = require('node:os');
    import('${sockets}').then(({ interfacesFor }) => {
      console.log(Object.keys(networkInterfaces()).length, interfacesFor(4, undefined, () => {}).length);
    });`;
  const { stdout } = spawnSync(command, [...before, process.execPath, '-e', script]);
  assert.equal(String(stdout), '72 64\n');
});

// Seeded bugs of registries: an entry that lives only as long as it is renewed, and what is believed of a registry that
// fails, lies or is full.

import type { Mutation } from './mutation.ts';

const simulator = { blind: 'simulated nodes have a written list of their members' };
const registry = 'src/discovery/registry.ts';
const knownNodes = 'src/discovery/known-nodes.ts';
const tests = ['src/discovery/registry.test.ts'];

export const registryMutations: readonly Mutation[] = [
  {
    id: 'registry-entry-not-renewed',
    hazards: [23],
    edits: [
      {
        file: registry,
        find: 'let pauseMs = renewalMs(open);',
        replace: 'let pauseMs = renewalMs(open) * 3_600;',
      },
    ],
    says: 'A node announces itself once: its entry expires while it lives.',
    tests,
    simulator,
  },
  {
    id: 'registry-lease-not-kept-alive',
    hazards: [23],
    edits: [
      {
        file: 'src/discovery/etcd.ts',
        find: "if (numberOf(fieldOf(kept, 'result', 'TTL')) > 0) return leaseId;",
        replace: 'if (kept !== undefined) return leaseId;',
      },
    ],
    says: 'A lease of etcd that is over is taken for one that lives: the entry is never there again.',
    tests: ['src/discovery/etcd.test.ts'],
    simulator,
  },
  {
    id: 'registry-answer-dropped-when-down',
    hazards: [12],
    edits: [
      {
        file: registry,
        find: "if (failures === 1) observe(open, 'warn', 'registry-failing', { operation, error });",
        replace:
          "if (failures === 1) observe(open, 'warn', 'registry-failing', { operation, error });\n  if (open.known.size > 0) open.changed([]);",
      },
    ],
    says: 'When a registry is down nobody is known any more, although the cluster could go on.',
    tests,
    simulator,
  },
  {
    id: 'registry-memory-loss-believed',
    hazards: [12],
    edits: [
      {
        file: knownNodes,
        find: 'const goneMs = missing.missingSinceMs + holdMs;',
        replace: 'const goneMs = missing.missingSinceMs;',
      },
    ],
    says: 'A registry that was restarted empty makes all nodes disappear, and an entry that flaps is reported each time.',
    tests,
    simulator,
  },
  {
    id: 'registry-garbage-reported',
    hazards: [13],
    edits: [
      {
        file: knownNodes,
        find: '      refused.push(why);\n      continue;',
        replace: '      refused.push(why);',
      },
    ],
    says: 'What somebody wrote into the registry is reported as a node, well-formed or not.',
    tests,
    simulator,
  },
  {
    id: 'registry-nodes-pile-up',
    hazards: [13],
    edits: [
      {
        file: knownNodes,
        find: 'if (known.size >= entriesMax) {',
        replace: 'if (known.size < 0) {',
      },
    ],
    says: 'A registry whose entries are others in every answer fills the memory of the node.',
    tests,
    simulator,
  },
  {
    id: 'registry-flood-believed',
    hazards: [13],
    edits: [
      {
        file: registry,
        find: 'if (answer.length > entriesMax) {',
        replace: 'if (answer.length < 0) {',
      },
    ],
    says: 'However many entries there are, they are all taken.',
    tests,
    simulator,
  },
  {
    id: 'registry-entry-left-at-close',
    hazards: [51],
    edits: [
      {
        file: registry,
        find: 'if (announcer !== undefined && open.mayBeAnnounced) {',
        replace: 'if (announcer !== undefined && !open.mayBeAnnounced) {',
      },
    ],
    says: 'A node that closes leaves its entry behind: others try to reach it until it expires.',
    tests,
    simulator,
  },
  {
    id: 'registry-close-waits-for-ever',
    hazards: [26],
    edits: [
      {
        file: registry,
        find: 'const timer = context.clock.setTimer(timeoutMs, () => stop(late));',
        replace: 'const timer = context.clock.setTimer(timeoutMs * 1_000, () => stop(late));',
      },
    ],
    says: 'A registry that does not answer holds up whoever asks it, and the close of the node.',
    tests,
    simulator,
  },
  {
    id: 'registry-backoff-without-bound',
    hazards: [23],
    edits: [
      {
        file: registry,
        find: 'const pauseMs = Math.min(renewalMs(open), backoffMsMin * 2 ** (failures - 1));',
        replace: 'const pauseMs = backoffMsMin * 2 ** Math.min(40, failures - 1);',
      },
    ],
    says: 'After a long time without its registry a node does not notice for hours that it is back.',
    tests,
    simulator,
  },
  {
    id: 'registry-asked-in-step',
    hazards: [5],
    edits: [
      {
        file: registry,
        find: 'return pauseMs * (0.5 + open.random.unit() / 2);',
        replace: 'return pauseMs;',
      },
    ],
    says: 'All nodes ask a registry that comes back at one moment.',
    tests,
    simulator,
  },
  {
    id: 'registry-id-taken-over',
    hazards: [52],
    edits: [
      {
        file: 'src/discovery/etcd.ts',
        find: 'if (entry !== undefined && holder !== endpoint) return holder;',
        replace: "if (entry !== undefined && holder === '') return holder;",
      },
    ],
    says: 'Of two nodes with one id each writes its endpoint over that of the other.',
    tests: ['src/discovery/etcd.test.ts'],
    simulator,
  },
  {
    id: 'registry-double-changes-places',
    hazards: [52],
    edits: [
      {
        file: knownNodes,
        find: 'const kept = before !== undefined && found.includes(before.node.endpoint);',
        replace: 'const kept = before !== undefined && found[0] === before.node.endpoint;',
      },
    ],
    says: 'Of two nodes that claim one id the later one is believed.',
    tests,
    simulator,
  },
];

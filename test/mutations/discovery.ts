// Seeded bugs of discovery: whom to believe on a network, and that nothing that is found becomes a member.

import type { Mutation } from './mutation.ts';

const simulator = { blind: 'simulated nodes have a written list of their members' };
const announcement = 'src/discovery/announcement.ts';
const announcedNodes = 'src/discovery/announced-nodes.ts';

export const discoveryMutations: readonly Mutation[] = [
  {
    id: 'announcement-signature-not-checked',
    hazards: [13],
    edits: [
      {
        file: announcement,
        find: 'if (secrets.length > 0 && !isSigned(secrets, bytes, bodyEnd))',
        replace: 'if (secrets.length > 0 && bodyEnd < 0)',
      },
    ],
    says: 'Whoever puts 32 bytes behind his announcement is believed: the signature is not checked.',
    tests: ['src/discovery/announcement.test.ts'],
    simulator,
  },
  {
    id: 'announcement-repeated',
    hazards: [13],
    edits: [
      {
        file: announcedNodes,
        find: "const { kind, endpoint, stamp } = announcement;\n  if (stamp <= known.stamp) return { outcome: 'repeated' };",
        replace: 'const { kind, endpoint, stamp } = announcement;',
      },
    ],
    says: 'An announcement that is played again is believed: it brings a node back that has gone.',
    tests: ['src/discovery/announced-nodes.test.ts'],
    simulator,
  },
  {
    id: 'announcement-of-former-start',
    hazards: [13],
    edits: [
      {
        file: announcedNodes,
        find: "if (stamp <= known.stamp) return { outcome: 'repeated' };\n  table.nodes.delete(nodeId);",
        replace: 'table.nodes.delete(nodeId);',
      },
    ],
    says: 'What a former start of a node has said, played again, takes the place of a node that is silent.',
    tests: ['src/discovery/announced-nodes.test.ts'],
    simulator,
  },
  {
    id: 'announcement-of-any-time',
    hazards: [13],
    edits: [
      {
        file: announcedNodes,
        find: 'const isInTime = Math.abs(now.wallMs - stamp) <= replayWindowMs;',
        replace: 'const isInTime = now.wallMs > 0;',
      },
    ],
    says: 'A signed announcement is believed however old it is.',
    tests: ['src/discovery/announced-nodes.test.ts'],
    simulator,
  },
  {
    id: 'announced-nodes-never-expire',
    hazards: [12],
    edits: [
      {
        file: announcedNodes,
        find: 'if (!node.isGone && silentMs >= table.expiryMs) {',
        replace: 'if (!node.isGone && silentMs < 0) {',
      },
    ],
    says: 'A node that fell silent is reported for ever, and keeps its id from its next start.',
    tests: ['src/discovery/announced-nodes.test.ts'],
    simulator,
  },
  {
    id: 'announcement-of-other-cluster',
    hazards: [13],
    edits: [
      {
        file: announcement,
        find: "if (reader.text() !== cluster) return 'otherCluster';",
        replace: 'reader.text();',
      },
    ],
    says: 'Nodes of another cluster on the same network are reported as if they were of this one.',
    tests: ['src/discovery/announcement.test.ts'],
    simulator,
  },
  {
    id: 'announced-id-taken-over',
    hazards: [13],
    edits: [
      {
        file: announcedNodes,
        find: 'if (!known.isGone) {',
        replace: 'if (!known.isGone && stamp <= known.stamp) {',
      },
    ],
    says: 'Of two processes that claim one id the one that spoke last has it: what is reported flaps.',
    tests: ['src/discovery/announced-nodes.test.ts'],
    simulator,
  },
  {
    id: 'announced-nodes-without-bound',
    hazards: [12],
    edits: [
      {
        file: announcedNodes,
        find: 'if (table.nodes.size >= announcedNodesMax)',
        replace: 'if (table.nodes.size < 0)',
      },
    ],
    says: 'Made-up nodes are remembered without a bound.',
    tests: ['src/discovery/announced-nodes.test.ts'],
    simulator,
  },
  {
    id: 'held-up-listener-expires-all',
    hazards: [14],
    edits: [
      {
        file: 'src/discovery/multicast.ts',
        find: 'clock.defer(() => {\n      if (session.isClosed) return;\n',
        replace: '(() => {\n      if (session.isClosed) return;\n',
      },
      {
        file: 'src/discovery/multicast.ts',
        find: 'tick(settings, session);\n    });\n  });',
        replace: 'tick(settings, session);\n    })();\n  });',
      },
    ],
    says: 'A process that was held up takes everybody for gone before it has read what they said meanwhile.',
    tests: ['src/discovery/multicast.test.ts'],
    simulator,
  },
  {
    id: 'found-nodes-are-first-members',
    hazards: [12],
    edits: [
      {
        file: 'src/discovery/dynamic.ts',
        find: 'return {\n    async open(changed) {',
        replace: 'return {\n    fixedNodes: nodes,\n    async open(changed) {',
      },
    ],
    says: 'The nodes that a discovery happens to know at the start are the first members.',
    tests: ['test/host/discovery.test.ts'],
    simulator,
  },
  {
    id: 'found-nodes-are-peers',
    hazards: [12, 13],
    edits: [
      {
        file: 'src/host/endpoints.ts',
        find: 'if (nodeId === undefined || !host.replicaIds.has(nodeId)) continue;',
        replace:
          'if (nodeId === undefined) continue;\n    if (!host.replicaIds.has(nodeId)) host.replicaIds.set(nodeId, host.replicaIds.size + 1);',
      },
    ],
    says: 'A node that is found counts as a member, although nobody has named it.',
    tests: ['test/host/discovery.test.ts'],
    simulator,
  },
  {
    id: 'found-endpoint-takes-back',
    hazards: [12],
    edits: [
      {
        file: 'src/host/endpoints.ts',
        find: 'const isNews = before.get(nodeId) !== endpoint;',
        replace: 'const isNews = before.size >= 0;',
      },
    ],
    says: 'Discovery repeats where a member was, and so takes back what the member has said since.',
    tests: ['test/host/discovery.test.ts'],
    simulator,
  },
];

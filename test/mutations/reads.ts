// Seeded bugs of the section "Becoming leader, reads, apply": read indexes, leases, the applier, restarts, what callers
// are told, timestamps.

import type { Mutation } from './mutation.ts';

const noLeases = { blind: 'nodes do not offer lease reads' } as const;

export const readMutations: readonly Mutation[] = [
  {
    id: 'read-before-first-commit',
    hazards: [29],
    edits: [
      {
        file: 'src/raft/read-index.ts',
        find: 'return term === state.currentTerm;',
        replace: 'return term <= state.currentTerm;',
      },
    ],
    says: 'A new leader answers reads before an entry of its own term is committed.',
    tests: ['test/paper/reads.test.ts'],
    simulator: 'quick',
  },
  {
    id: 'read-without-round',
    hazards: [30],
    edits: [
      {
        file: 'src/raft/read-index.ts',
        find: 'if (isSingleVoter(state) || isLeaseValid(state)) answer(',
        replace: 'if (state.leader === state.id || isLeaseValid(state)) answer(',
      },
    ],
    says: 'A leader answers a read without asking whether it still leads.',
    tests: ['test/paper/reads.test.ts'],
    simulator: 'quick',
  },
  {
    id: 'old-echo-confirms',
    hazards: [30],
    edits: [
      {
        file: 'src/raft/replication.ts',
        find: 'if (message.readRound !== undefined) handleReadAck(state, message.from, message.readRound);',
        replace: 'handleReadAck(state, message.from, state.reads.lastRound);',
      },
    ],
    says: 'The answer to a heartbeat of before the question confirms the read.',
    tests: ['test/paper/reads.test.ts'],
    simulator: 'pauses',
  },
  {
    id: 'lease-without-drift-bound',
    hazards: [31],
    edits: [
      {
        file: 'src/raft/read-index.ts',
        find: 'Math.floor((electionTicks - 1) * (1 - clockDriftBound));',
        replace: 'Math.floor(electionTicks - 1);',
      },
    ],
    says: 'A lease trusts clocks to run equally fast.',
    tests: ['test/paper/reads.test.ts'],
    simulator: noLeases,
  },
  {
    id: 'lease-from-answer',
    hazards: [31],
    edits: [
      {
        file: 'src/raft/read-index.ts',
        find: 'reads.leaseFromTick = pending.sentAtTick;',
        replace: 'reads.leaseFromTick = reads.leaderTicks;',
      },
    ],
    says: 'A lease counts from when the answers came, not from when the heartbeats were sent.',
    tests: ['test/paper/reads.test.ts'],
    simulator: noLeases,
  },
  {
    id: 'lease-survives-pause',
    hazards: [14, 31],
    edits: [
      {
        file: 'src/raft/read-index.ts',
        find: 'state.reads.leaseFloorRound = state.reads.lastRound;',
        replace: '',
      },
    ],
    says: 'An answer that waited through a pause brings the lease back.',
    tests: ['test/paper/reads.test.ts'],
    simulator: noLeases,
  },
  {
    id: 'lease-without-loyalty',
    hazards: [31],
    edits: [
      {
        file: 'src/raft/follower.ts',
        find: "if (state.config.reads === 'lease') state.voteEmbargoTicks = state.config.electionTicks;",
        replace: "if (state.config.reads === 'lease') state.voteEmbargoTicks = 0;",
      },
    ],
    says: 'A follower votes against a leader that relies on its promise.',
    tests: ['test/paper/reads.test.ts'],
    simulator: noLeases,
  },
  {
    id: 'failed-apply-skipped',
    hazards: [32],
    edits: [
      {
        file: 'src/host/applier.ts',
        find: '  } catch (error) {\n    throw applyFailed(partition, entries, error);\n  }',
        replace:
          "  } catch (error) {\n    host.observe({ level: 'error', name: 'apply-failed', fields: { error } });\n  }",
      },
    ],
    says: 'Entries on which the state machine threw are logged and skipped.',
    tests: ['test/host/applier.test.ts'],
    simulator: { blind: 'a simulated state machine that fails rejects, and does not throw' },
  },
  {
    id: 'unknown-entry-skipped',
    hazards: [32],
    edits: [
      {
        file: 'src/host/system-entries.ts',
        find: 'if (type !== systemTypes.genesis) {',
        replace: "if (type === '') {",
      },
    ],
    says: 'An entry of a later version of the library is skipped.',
    tests: ['test/host/evidence.test.ts'],
    simulator: { blind: 'simulated nodes are of one version' },
  },
  {
    id: 'redelivery-after-restart',
    hazards: [33],
    edits: [
      {
        file: 'src/host/partition.ts',
        find: 'appliedIndex: base.index,',
        replace: 'appliedIndex: stored.compactedIndex,',
      },
    ],
    says: 'A restart hands over again the entries below the checkpoint that the log has kept.',
    tests: ['test/host/checkpoint.test.ts'],
    simulator: 'snapshots',
  },
  {
    id: 'apply-skipped-at-restart',
    hazards: [33],
    edits: [
      {
        file: 'src/host/partition.ts',
        find: 'appliedIndex: base.index,',
        replace: 'appliedIndex: commitIndex,',
      },
    ],
    says: 'A restart counts everything committed as applied and does not hand it over.',
    tests: ['test/host/applier.test.ts'],
    simulator: 'disk',
  },
  {
    id: 'apply-skipped-at-end-of-page',
    hazards: [33],
    edits: [
      {
        file: 'src/host/applier.ts',
        find: "  flushPlain();\n  partition.applyUnits.push({ kind: 'done'",
        replace: "  partition.applyUnits.push({ kind: 'done'",
      },
    ],
    says: 'The last plain entries of a page are not handed to the state machine.',
    tests: ['test/host/applier.test.ts'],
    simulator: 'quick',
  },
  {
    id: 'restored-looks-new',
    hazards: [33],
    edits: [
      {
        file: 'src/host/applier.ts',
        find: 'const restored = index <= partition.restoreThroughIndex;',
        replace: 'const restored = index < partition.restoreThroughIndex;',
      },
    ],
    says: 'The last restored entry looks like a new one.',
    tests: ['test/host/applier.test.ts'],
    simulator: { blind: 'it is a mark for applications' },
  },
  {
    id: 'lost-write-answered-as-committed',
    hazards: [34],
    edits: [
      {
        file: 'src/host/proposals.ts',
        find: 'if (entry.term === term) succeed(partition, proposal, entry, results?.[at]);',
        replace: 'if (entry.term >= term) succeed(partition, proposal, entry, results?.[at]);',
      },
    ],
    says: 'Writes that wait through a step-down are answered as committed, although another leader replaced them.',
    tests: ['test/host/proposal-order.test.ts'],
    simulator: 'quick',
  },
  {
    id: 'pending-failed-on-step-down',
    hazards: [34],
    edits: [
      {
        file: 'src/host/proposals.ts',
        find: 'const { queue } = partition;\n  partition.queue = [];\n  for',
        replace:
          'const { queue } = partition;\n  for (const proposal of partition.pending.splice(0)) fail(partition, proposal, lost(partition, firstIndexOf(proposal)));\n  partition.queue = [];\n  for',
      },
    ],
    says: 'Writes that wait when leadership is lost are answered as lost, and commit later.',
    tests: ['test/host/replicate.test.ts'],
    simulator: 'quick',
  },
  {
    id: 'lost-connection-means-not-written',
    hazards: [34],
    edits: [
      {
        file: 'src/host/proposals.ts',
        find: 'refuse(host, partition, proposal, outcomeUnknown(partition, why));',
        replace: 'refuse(host, partition, proposal, dropped(partition));',
      },
    ],
    says: 'A write that was passed on when the connection broke is said to be not written.',
    tests: ['test/host/replicate.test.ts'],
    simulator: 'quick',
  },
  {
    id: 'timeout-means-not-written',
    hazards: [34],
    edits: [
      {
        file: 'src/host/proposals.ts',
        find: 'fail(partition, proposal, timedOut(partition));\n  partition.pending',
        replace: 'fail(partition, proposal, neverTaken(host, partition));\n  partition.pending',
      },
    ],
    says: 'A write that was appended and not answered in time is said to be not written.',
    tests: ['test/host/leadership.test.ts'],
    simulator: 'quick',
  },
  {
    id: 'cut-batch-means-not-written',
    hazards: [34],
    edits: [
      {
        file: 'src/host/proposals.ts',
        find: 'isPartial ? cutShort(partition) : lost(partition, firstIndex));',
        replace: 'lost(partition, firstIndex + (isPartial ? 1 : 0)));',
      },
    ],
    says: 'A batch of which the first entries committed is said to be without effect.',
    tests: ['test/host/proposal-order.test.ts'],
    simulator: { blind: 'simulated writes are single' },
  },
  {
    id: 'timestamps-repeat',
    hazards: [35],
    edits: [
      {
        file: 'src/time/hybrid-clock.ts',
        find: 'highest = wall > highest ? wall : highest + 1;',
        replace: 'highest = wall > highest ? wall : highest;',
      },
    ],
    says: 'Two events of one millisecond get the same timestamp.',
    tests: ['src/time/hybrid-clock.test.ts'],
    simulator: { blind: 'timestamps are no part of the rules that the simulator checks' },
  },
  {
    id: 'clock-floor-forgotten',
    hazards: [35],
    edits: [
      {
        file: 'src/time/hybrid-clock.ts',
        find: 'let highest = floor;',
        replace: 'let highest = 0;',
      },
    ],
    says: 'After a restart with a wall clock that was set back timestamps go back.',
    tests: ['src/time/hybrid-clock.test.ts'],
    simulator: { blind: 'timestamps are no part of the rules that the simulator checks' },
  },
  {
    id: 'clock-floor-not-stored',
    hazards: [35],
    edits: [
      {
        file: 'src/host/storage-writer.ts',
        find: 'const clockFloor = encodeNumber(host.hybridClock.now());',
        replace: 'const clockFloor = encodeNumber(host.nextRequestId);',
      },
    ],
    says: 'The store keeps the timestamp of the start instead of the last one.',
    tests: ['test/host/evidence.test.ts'],
    simulator: { blind: 'timestamps are no part of the rules that the simulator checks' },
  },
  {
    id: 'order-without-tie-break',
    hazards: [35],
    edits: [
      {
        file: 'src/time/timestamp.ts',
        find: 'if (a.nodeId !== b.nodeId) return a.nodeId < b.nodeId ? -1 : 1;',
        replace: 'if (a.nodeId !== b.nodeId) return -1;',
      },
    ],
    says: 'Of equal timestamps of two nodes each comes before the other.',
    tests: ['src/time/timestamp.test.ts'],
    simulator: { blind: 'the comparison is for applications' },
  },
];

// Which faults a simulated run has, how often, and which states it must reach. Every seed of a profile switches some of
// its faults off (swarm testing: what never happens together with something else is not hidden by it) and draws the
// strength of the others.

import type { CoverageState } from './coverage.ts';

/** Faults that are planned: each one begins at a moment and, where it lasts, ends by itself. */
export const faultKinds = {
  crash: 'a process is killed, or its machine loses power',
  crashInWrite: 'a process dies before a write, between write and sync, or after the sync',
  restart: 'a node is closed in good order and opened again',
  isolate: 'a node is cut off, in one direction or both',
  split: 'the nodes fall into two groups that do not hear each other',
  alternate: 'leaders are cut off in turn: each comes back when the next one has just been elected',
  slowLink: 'links are slow and narrow for a while',
  noise: 'links lose, copy and reorder frames for a while',
  pause: 'a process stands still (SIGSTOP, a blocked event loop)',
  wallJump: 'a wall clock jumps',
  slowDisk: 'syncs take long for a while',
  fullDisk: 'a disk is full for a while, and has room again',
  failedSync: 'a disk fails to sync',
  damage: 'a record on a disk rots while its node is down',
  wipe: 'a disk is emptied while its node is down',
  transfer: 'leadership is handed over on request',
  forgetLeader: 'a follower is told to forget its leader',
  membership:
    'members of a partition change: learners, promotions, removals, replacements, several at once',
  checkpoint:
    'a partition is checkpointed and its log compacted, sometimes while somebody holds it',
  crashInMachine: 'a process dies while a state machine applies, restores or gives its state',
  machineFault: "a state machine's own store fails once",
  rot: 'a bit of a stored snapshot flips',
  blackout:
    'all machines lose power at once when one has been away, and some of the others come back late',
} as const;

export type FaultKind = keyof typeof faultKinds;

export interface FaultProfile {
  /** How likely each kind is, beside the others; what is absent never happens. */
  readonly weights: Readonly<Partial<Record<FaultKind, number>>>;
  /** Of a hundred seeds, how many go without a kind. */
  readonly offPercent: number;
  /** Milliseconds between two faults, on average: drawn from this list for each seed. */
  readonly gapMs: readonly number[];
  /** Frames per ten thousand that are lost, copied, overtake others or are delayed all the time, at most. */
  readonly noiseMax: number;
  /** Values of the node options of these names. */
  readonly trailingEntries: readonly number[];
  readonly checkpointEntries: readonly number[];
  /** Bytes that snapshots are larger than they need be. */
  readonly snapshotPadding: readonly number[];
  /** States that a long run of this profile must reach. */
  readonly promises: readonly CoverageState[];
}

const everything: Readonly<Record<FaultKind, number>> = {
  crash: 10,
  crashInWrite: 10,
  restart: 3,
  isolate: 10,
  split: 6,
  alternate: 8,
  slowLink: 4,
  noise: 6,
  pause: 6,
  wallJump: 3,
  slowDisk: 4,
  fullDisk: 2,
  failedSync: 2,
  damage: 1,
  wipe: 1,
  transfer: 8,
  forgetLeader: 4,
  membership: 10,
  checkpoint: 10,
  crashInMachine: 6,
  machineFault: 3,
  rot: 2,
  blackout: 3,
};

const alwaysPromised: readonly CoverageState[] = [
  'leaderElected',
  'writeForwarded',
  'readByFollower',
];

const swarmPromises: readonly CoverageState[] = [
  ...alwaysPromised,
  'electedAgainstDivergence',
  'oldTermOnQuorum',
  'truncation',
  'committedBeforeOwnSync',
  'staleLeader',
  'snapshotInstalled',
  'transferDone',
  'transferAborted',
  'jointConfiguration',
  'learnerPromoted',
  'leaderRemoved',
  'crashBeforeWrite',
  'crashBeforeSync',
  'crashBeforeAnswer',
  'unsyncedLost',
  'unsyncedKept',
  'tornTail',
  'writeFailed',
  'timerLate',
  'messageDuplicated',
  'messageReordered',
  'messageFromThePast',
  'unknownOutcome',
  'unknownTookEffect',
  'leaderForgotten',
  'clockJumped',
  'restoredEntries',
  'automaticCheckpoint',
  'compactionHeld',
  'machineBehind',
  'machineAhead',
  'crashInApply',
  'crashInRestore',
  'crashInSnapshot',
  'machineFailed',
  'logOnlyCompacted',
  'logOnlyHeld',
];

function profile(parts: Partial<FaultProfile> & Pick<FaultProfile, 'weights'>): FaultProfile {
  return {
    offPercent: 30,
    gapMs: [200, 500, 1_500],
    noiseMax: 200,
    trailingEntries: [0, 20, 4_096],
    checkpointEntries: [0, 20, 200, 250_000],
    snapshotPadding: [0],
    promises: alwaysPromised,
    ...parts,
  };
}

export type ProfileName =
  | 'quick'
  | 'swarm'
  | 'disk'
  | 'membership'
  | 'snapshots'
  | 'pauses'
  | 'long'
  | 'calm';

export const profiles: Readonly<Record<ProfileName, FaultProfile>> = {
  /** For every change: all faults, at a high rate. */
  quick: profile({ weights: everything, gapMs: [100, 300], promises: swarmPromises }),
  swarm: profile({ weights: everything, promises: swarmPromises }),
  disk: profile({
    weights: {
      crash: 10,
      crashInWrite: 20,
      slowDisk: 10,
      fullDisk: 5,
      failedSync: 5,
      damage: 3,
      wipe: 2,
      isolate: 3,
      checkpoint: 5,
      crashInMachine: 10,
      machineFault: 5,
      rot: 3,
      blackout: 4,
    },
    noiseMax: 20,
    promises: [
      ...alwaysPromised,
      'crashBeforeWrite',
      'crashBeforeSync',
      'crashBeforeAnswer',
      'unsyncedLost',
      'unsyncedKept',
      'tornTail',
      'damageFound',
      'writeFailed',
      'diskFull',
      'storeReopened',
      'openRefused',
      'diskStall',
      'wipedRefused',
      'restoredEntries',
      'machineBehind',
      'machineAhead',
      'crashInApply',
      'crashInRestore',
      'crashInSnapshot',
      'machineFailed',
      'rotRestored',
    ],
  }),
  membership: profile({
    weights: {
      membership: 30,
      alternate: 4,
      crash: 6,
      isolate: 8,
      split: 4,
      transfer: 6,
      checkpoint: 5,
      noise: 3,
      crashInWrite: 4,
      forgetLeader: 3,
      wipe: 3,
    },
    promises: [
      ...alwaysPromised,
      'jointConfiguration',
      'jointAtCrash',
      'leaderRemoved',
      'learnerPromoted',
      'wipedRefused',
      'readmitted',
    ],
  }),
  snapshots: profile({
    weights: {
      checkpoint: 25,
      alternate: 4,
      isolate: 10,
      crash: 8,
      crashInWrite: 6,
      transfer: 6,
      membership: 5,
      noise: 5,
      slowLink: 4,
      pause: 4,
      crashInMachine: 8,
      machineFault: 4,
      rot: 8,
      blackout: 6,
    },
    trailingEntries: [0, 0, 3],
    checkpointEntries: [0, 5, 30],
    snapshotPadding: [0, 400_000],
    promises: [
      ...alwaysPromised,
      'snapshotInstalled',
      'snapshotFromMember',
      'snapshotDuringTransfer',
      'restoredEntries',
      'automaticCheckpoint',
      'compactionHeld',
      'machineBehind',
      'machineAhead',
      'snapshotAhead',
      'restoreInterrupted',
      'crashInRestore',
      'crashInSnapshot',
      'machineFailed',
      'logOnlyCompacted',
      'logOnlyHeld',
      'logOnlySkipped',
      'rotSent',
      'rotServed',
      'rotRestored',
    ],
  }),
  pauses: profile({
    weights: {
      pause: 20,
      alternate: 4,
      wallJump: 8,
      slowDisk: 6,
      slowLink: 6,
      isolate: 5,
      transfer: 6,
      forgetLeader: 4,
      crash: 3,
    },
    promises: [...alwaysPromised, 'timerLate', 'staleLeader', 'clockJumped', 'diskStall'],
  }),
  /** Everything, and it must reach everything. */
  long: profile({
    weights: everything,
    trailingEntries: [0, 3, 20, 4_096],
    snapshotPadding: [0, 0, 300_000],
    promises: [
      ...swarmPromises,
      'committedByFollowersAlone',
      'snapshotDuringTransfer',
      'jointAtCrash',
      'damageFound',
      'diskStall',
      'wipedRefused',
      'readmitted',
    ],
  }),
  /** No faults at all: what is wrong here is wrong everywhere. */
  calm: profile({ weights: {}, noiseMax: 0 }),
};

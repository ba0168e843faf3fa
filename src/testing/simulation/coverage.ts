// How often a run reached the states in which Raft systems go wrong. A simulation that never gets there proves nothing:
// a profile promises some of these states, and a long run of it that misses one fails.

/** Interesting states, and what each one is. */
export const coverageStates = {
  leaderElected: 'a leader was elected',
  electedAgainstDivergence: 'a leader was elected while another replica had entries that it lacks',
  oldTermOnQuorum: 'a quorum had an entry of an older term that was not committed yet (Figure 8)',
  truncation: 'a replica replaced entries that were not committed',
  committedBeforeOwnSync: 'a leader committed an entry before its own disk had it',
  committedByFollowersAlone:
    'followers had committed further than a leader that had lost its quorum',
  staleLeader: 'two replicas led one partition in different terms at once',
  snapshotInstalled: 'a snapshot was installed',
  snapshotDuringTransfer: 'a snapshot was installed while leadership was being handed over',
  snapshotFromMember: 'a member sent a snapshot for a leader that spared itself',
  transferDone: 'leadership was handed over on request',
  transferAborted: 'a transfer of leadership was given up',
  jointConfiguration: 'a joint configuration was entered',
  jointAtCrash: 'a replica crashed in a joint configuration',
  leaderRemoved: 'a leader was removed from its own partition',
  learnerPromoted: 'a learner became a voter',
  crashBeforeWrite: 'a node crashed before a batch was written',
  crashBeforeSync: 'a node crashed between write and sync',
  crashBeforeAnswer: 'a node crashed after the sync, before it knew',
  unsyncedLost: 'a power loss took writes that were not synced',
  unsyncedKept: 'a power loss left writes that were not synced',
  tornTail: 'a restart found the torn end of a log',
  damageFound: 'a damaged record was found',
  writeFailed: 'a write or a sync failed, and the node stopped',
  diskFull: 'a disk was full, and its node went on when there was room',
  storeReopened: 'a store met the end of its disk in a write, and was opened again',
  openRefused: 'a node did not open because its disk was full',
  diskStall: 'a leader gave its leadership away because of its disk',
  timerLate: 'a node stood still for longer than its timer',
  wipedRefused: 'a node whose disk was emptied was recognised and refused',
  readmitted: 'a node whose disk was emptied was readmitted, and votes where it did',
  messageDuplicated: 'a message arrived twice',
  messageReordered: 'a message overtook an earlier one',
  messageFromThePast: 'a message of a process that was gone arrived',
  unknownOutcome: 'a caller was told that the outcome of its write is unknown',
  unknownTookEffect: 'a write of unknown outcome took effect',
  writeForwarded: 'a follower passed a write on to the leader',
  readByFollower: 'a follower served a linearizable read',
  leaderForgotten: 'a follower was told to forget its leader',
  clockJumped: 'a wall clock jumped',
  restoredEntries: 'a restart delivered entries again',
  automaticCheckpoint: 'a checkpoint was made that nobody had asked for',
  compactionHeld: 'a hold kept a part of a log that a checkpoint allowed to compact',
  machineBehind: 'the store of a machine lacked entries that its log knew to be committed',
  machineAhead: 'the store of a machine had entries that its log did not know to be committed',
  snapshotAhead: 'a machine gave a state that had more than its log knew to be committed',
  restoreInterrupted: 'a machine began with the store that an interrupted restore had emptied',
  crashInApply: 'a node crashed while a machine applied entries to its store',
  crashInRestore: 'a node crashed while a machine restored a state',
  crashInSnapshot: 'a node crashed while a machine gave its state',
  machineFailed: "a machine's store failed, and the replica stopped",
  logOnlyCompacted: 'a log without a machine was compacted',
  logOnlyHeld: 'a log without a machine was kept for a member that had not stored all of it',
  logOnlySkipped: 'a member of a log without a machine went on behind a checkpoint',
  rotSent: 'a sender found its snapshot to be damaged',
  rotServed: 'a member that was asked for its snapshot found it to be damaged',
  rotRestored: 'a snapshot that was to be restored was damaged, and the node stopped',
} as const;

export type CoverageState = keyof typeof coverageStates;

export type Coverage = Record<CoverageState, number>;

export function newCoverage(): Coverage {
  return Object.fromEntries(Object.keys(coverageStates).map((state) => [state, 0])) as Coverage;
}

/** Adds the counts of one run to those of others. */
export function addCoverage(sum: Coverage, run: Coverage): void {
  for (const state of Object.keys(coverageStates) as CoverageState[]) sum[state] += run[state];
}

/** A table for people. */
export function coverageText(coverage: Coverage, promised: readonly CoverageState[]): string {
  return (Object.entries(coverageStates) as [CoverageState, string][])
    .map(([state, says]) => {
      const mark = promised.includes(state) ? (coverage[state] === 0 ? '!' : '*') : ' ';
      return `${String(coverage[state]).padStart(9)} ${mark} ${state.padEnd(25)} ${says}`;
    })
    .join('\n');
}

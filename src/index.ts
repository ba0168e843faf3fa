// The public API of `kommander`. Adapters are modules of their own (`kommander/wal/rocksdb`, …), so that nobody loads
// what nobody uses. Nothing inside `src/` imports this file except the server.

export {
  type ErrorCode,
  type ErrorDetails,
  isKommanderError,
  KommanderError,
} from './base/errors.ts';
export type {
  CommitResult,
  KommanderNode,
  LogHold,
  LogKeeper,
  LogStatus,
  MembershipChange,
  MembershipResult,
  NodeEvents,
  NodeListeners,
  NodeOptions,
  NodeStatus,
  PartitionStatus,
  ProposalInput,
  ReadmissionResult,
  ReadOptions,
  ReadResult,
  ReplicateOptions,
  WaitOptions,
} from './host/api.ts';
export { saveBackup } from './host/backup-directory.ts';
export {
  type BackupLog,
  type BackupManifest,
  type BackupPartition,
  type BackupState,
  backupFailure,
} from './host/backup-format.ts';
export { type RestoreOptions, type RestoreResult, restoreBackup } from './host/backup-restore.ts';
export type { EvidenceBundle, EvidenceFailure } from './host/evidence.ts';
export { parseEvidence } from './host/evidence-file.ts';
export {
  type EvidenceOutcome,
  type EvidenceRound,
  type EvidenceStep,
  replayEvidence,
} from './host/evidence-replay.ts';
export {
  type BaseFacts,
  describeBase,
  describeEntry,
  describeFacts,
  type EntryFacts,
  type NodeFacts,
} from './host/inspection.ts';
export { openNode } from './host/node.ts';
export type { Clock, HybridClock, Timer, Timestamp } from './ports/clock.ts';
export type { DiscoveredNode, Discovery, DiscoveryContext } from './ports/discovery.ts';
export type { ObservedEvent, Observer } from './ports/observer.ts';
export { decodeRun, encodeRuns } from './ports/run.ts';
export type {
  SnapshotFacts,
  SnapshotReader,
  SnapshotStore,
  SnapshotWriter,
  StoredSnapshot,
} from './ports/snapshot-store.ts';
export type {
  CommittedEntry,
  SnapshotBytes,
  SnapshotData,
  StateMachine,
} from './ports/state-machine.ts';
export type {
  Endpoint,
  Frame,
  FrameItem,
  NodeId,
  NodeIdentity,
  Transport,
  TransportContext,
} from './ports/transport.ts';
export { Lane } from './ports/transport.ts';
export type {
  LogBase,
  PartitionId,
  PartitionWrite,
  ReadRange,
  StoredPartition,
  Wal,
  WalBatch,
  WalContents,
  WalStats,
} from './ports/wal.ts';
export {
  type ConfState,
  type Entry,
  type HardState,
  type LogIndex,
  type PeerMessage,
  payloadOf,
  type Role,
  type Term,
  type TermRun,
} from './raft/types.ts';
export { systemClock } from './time/system-clock.ts';
export { formatTimestamp, parseTimestamp, timestampWallMs } from './time/timestamp.ts';

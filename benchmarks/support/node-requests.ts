// What the benchmark asks of the node processes that it starts, and what they answer: plain values that travel over the
// channel between a process and its child. One request has one answer.

import type { Endpoint, LogIndex, NodeId, PartitionId, WalStats } from '../../src/index.ts';
import type { TableRestore } from './table-machine.ts';

export type WalEngine = 'rocksdb' | 'segment' | 'sqlite' | 'memory';

export interface OpenRequest {
  readonly nodeId: NodeId;
  readonly members: Readonly<Record<NodeId, Endpoint>>;
  readonly partitions: number;
  readonly wal: WalEngine;
  /** Directory of the log store; not used by `memory`. */
  readonly path: string;
  /** Bytes of the table that a partition's state machine keeps; 0: it keeps nothing and has no snapshot. */
  readonly tableBytes: number;
  readonly snapshotsFrom: 'leader' | 'followers';
}

/** A closed loop: as soon as a call is answered, the next one begins. */
export interface LoadRequest {
  readonly operation: 'write' | 'read';
  /** The calls go round these. */
  readonly partitionIds: readonly PartitionId[];
  /** Calls that are under way at any time. */
  readonly inFlight: number;
  /** Bytes of an entry's data. */
  readonly bytes: number;
  /** Whether the node may ask the leader, when another node leads. */
  readonly mayForward: boolean;
}

/** What a node process has done up to a moment of its own clock. */
export interface Mark {
  readonly atMs: number;
  /** Of all threads of the process, user and system. */
  readonly cpuMicros: number;
  readonly wal: WalStats;
  /** Calls of its load that were answered. */
  readonly completedCount: number;
  /** Calls of its load that failed, by error code. */
  readonly failures: Readonly<Record<string, number>>;
  /** Events of level warn and error, by name. */
  readonly warnings: Readonly<Record<string, number>>;
  /** Times that a leader became known for an application partition. */
  readonly leaderChanges: number;
}

/** Latencies of the calls between the last two marks. */
export interface Latencies {
  readonly count: number;
  /** Nanoseconds at 0.1 %, 0.2 %, … 100 % of the calls; empty without calls. */
  readonly perMilleNanos: readonly number[];
}

/** What the state machines of a node have applied. */
export interface Applied {
  readonly entryCount: number;
  readonly dataBytes: number;
}

/** How far partition 1, with its table, is. Times are of the process's own clock. */
export interface TableProgress {
  readonly atMs: number;
  readonly openedMs: number;
  readonly lastApplied: LogIndex;
  readonly compactedIndex: LogIndex;
  readonly tableBytes: number;
  /** Entries that the machine was given since this node opened. */
  readonly appliedCount: number;
  readonly restores: readonly TableRestore[];
  /** The longest that the node's timer was late, since it opened. */
  readonly timerLatenessMsMax: number;
}

/** Name of a request: what it brings, what comes back. */
export interface NodeRequests {
  /** Resolves when the node is open. */
  open: { readonly request: OpenRequest; readonly reply: undefined };
  /** Leaders of partitions 1 … n as the node knows them, waiting for those that it does not know. */
  leaders: { readonly request: undefined; readonly reply: readonly NodeId[] };
  transfer: {
    readonly request: { readonly partitionId: PartitionId; readonly to: NodeId };
    readonly reply: undefined;
  };
  startLoad: { readonly request: LoadRequest; readonly reply: undefined };
  /** Writes to the table of partition 1 at a steady rate. */
  startSteadyLoad: { readonly request: { readonly perSecond: number }; readonly reply: undefined };
  /** Resolves when the last call is answered; the answer is how many calls succeeded. */
  stopLoad: { readonly request: undefined; readonly reply: number };
  mark: { readonly request: undefined; readonly reply: Mark };
  latencies: { readonly request: undefined; readonly reply: Latencies };
  applied: { readonly request: undefined; readonly reply: Applied };
  /** Writes so many entries to the table of partition 1, as fast as it can. */
  fill: { readonly request: { readonly entryCount: number }; readonly reply: undefined };
  /** Makes a checkpoint of partition 1; the answer is its index. */
  checkpoint: { readonly request: undefined; readonly reply: LogIndex };
  tableProgress: { readonly request: undefined; readonly reply: TableProgress };
  /** Equal for equal tables. */
  tableChecksum: { readonly request: undefined; readonly reply: number };
  startProfile: { readonly request: undefined; readonly reply: undefined };
  /** Writes what the processor did since `startProfile` to a file. */
  stopProfile: { readonly request: { readonly file: string }; readonly reply: undefined };
  close: { readonly request: undefined; readonly reply: undefined };
}

export type RequestName = keyof NodeRequests;

/** On its way to a node process. */
export interface RequestMessage {
  readonly id: number;
  readonly name: RequestName;
  readonly body: unknown;
}

/** On its way back; `error` is there when the request failed. */
export interface ReplyMessage {
  readonly id: number;
  readonly body?: unknown;
  readonly error?: string;
}

// A node without consensus for tests of the HTTP layer: it gives every write the next index and applies it at once. A
// test can make the next calls fail, or hold them until it lets them go.

import { type ErrorCode, type ErrorDetails, KommanderError } from '../src/base/errors.ts';
import type {
  CommitResult,
  KommanderNode,
  NodeStatus,
  PartitionStatus,
  ProposalInput,
  ReadResult,
} from '../src/host/api.ts';
import type { PartitionId } from '../src/ports/wal.ts';
import { EntryKind, proposedEntry } from '../src/raft/types.ts';
import type { KeyValueService } from '../src/server/http-routes.ts';
import { KeyValueMachine } from '../src/server/key-value.ts';

export interface FakeService extends KeyValueService {
  /** What the node was asked, in order. */
  readonly calls: FakeCall[];
  /** Makes every call fail until `heal`. */
  fail(error: Error): void;
  heal(): void;
  /** Makes calls wait until the returned function is called. */
  hold(): () => void;
  state: NodeStatus['state'];
  leader: string | undefined;
  /** What a backup gives. */
  backupPieces: Iterable<Uint8Array> | AsyncIterable<Uint8Array>;
}

export interface FakeCall {
  readonly name: 'replicate' | 'read' | 'transfer' | 'readmit' | 'backup';
  readonly partitionId: PartitionId;
  readonly forward: boolean | undefined;
  readonly consistency?: string | undefined;
  readonly signal: AbortSignal | undefined;
}

export function fakeError(code: ErrorCode, details: ErrorDetails = {}): KommanderError {
  return new KommanderError(`${code} by the test`, { code, details });
}

/** Payload of every entry in the fake's log. */
const fakeEntryBytes = 300_000;

/** A service with `partitionCount` partitions, each with its own log. */
export function fakeService(partitionCount = 2): FakeService {
  const machines = new Map<PartitionId, KeyValueMachine>();
  const lastIndexes = new Map<PartitionId, number>();
  for (let id = 1; id <= partitionCount; id++) machines.set(id, new KeyValueMachine());
  let failure: Error | undefined;
  let gate = Promise.resolve();
  const calls: FakeCall[] = [];

  async function enter(call: FakeCall): Promise<void> {
    calls.push(call);
    await Promise.race([gate, rejectionOnAbort(call.signal)]);
    if (failure !== undefined) throw failure;
    if (call.partitionId > partitionCount) throw fakeError('UNKNOWN_PARTITION');
  }

  async function replicate(
    partitionId: PartitionId,
    type: string | readonly ProposalInput[],
    data?: unknown,
    options?: { forward?: boolean; signal?: AbortSignal },
  ): Promise<CommitResult> {
    const { forward, signal } = options ?? {};
    await enter({ name: 'replicate', partitionId, forward, signal });
    if (typeof type !== 'string' || !(data instanceof Uint8Array))
      throw new Error('one entry only');
    const index = (lastIndexes.get(partitionId) ?? 0) + 1;
    lastIndexes.set(partitionId, index);
    const entry = {
      partitionId,
      index,
      term: 3,
      timestamp: 1_000 + index,
      type,
      data,
      restored: false,
    };
    const [result] = machines.get(partitionId)?.apply([entry]) ?? [];
    return { index, term: 3, timestamp: entry.timestamp, result };
  }

  function partitionStatus(partitionId: PartitionId): PartitionStatus {
    const index = lastIndexes.get(partitionId) ?? 0;
    return {
      partitionId,
      role: 'leader',
      term: 3,
      leader: service.leader,
      commitIndex: index,
      lastApplied: index,
      lastIndex: index,
      compactedIndex: 0,
      confState: {
        voters: [1],
        votersOutgoing: [],
        learners: [],
        learnersNext: [],
        autoLeave: false,
      },
      log: {
        entries: index,
        checkpointIndex: 0,
        entriesSinceCheckpoint: index,
        bytesSinceCheckpoint: 64 * index,
        holds: [{ owner: 'reader', fromIndex: 1 }],
        keptBy: { reason: 'slowestReplica', nodeId: undefined },
      },
      queuedProposals: 0,
      stopped: undefined,
    };
  }

  const node: KommanderNode = {
    nodeId: 'a',
    replicate,
    checkpoint: async () => ({ index: 0, term: 0, timestamp: 0, result: undefined }),
    retain: (partitionId, fromIndex, owner) => ({
      ...{ partitionId, fromIndex, owner },
      moveTo: () => {},
      release: () => {},
      [Symbol.dispose]: () => {},
    }),
    isLeader: () => service.leader === 'a',
    leaderOf: () => service.leader,
    waitForLeader: async () => service.leader ?? 'a',
    async read(partitionId, options): Promise<ReadResult> {
      const { forward, consistency, signal } = options ?? {};
      await enter({ name: 'read', partitionId, forward, consistency, signal });
      return { index: lastIndexes.get(partitionId) ?? 0, term: 3 };
    },
    async transferLeadership(partitionId, to, options) {
      await enter({ name: 'transfer', partitionId, forward: undefined, signal: options?.signal });
      service.leader = to;
    },
    changeMembership: async () => ({ index: 0, term: 0, voters: ['a'], learners: [] }),
    async readmit(nodeId, options) {
      await enter({ name: 'readmit', partitionId: 0, forward: undefined, signal: options?.signal });
      return { nodeId, replicaId: 1_026 };
    },
    forgetLeader: () => {},
    async *backup({ signal } = {}) {
      await enter({ name: 'backup', partitionId: 0, forward: undefined, signal });
      yield* service.backupPieces;
    },
    partitionOf: (key) => 1 + (key.length % partitionCount),
    partitionIds: () => [0, ...machines.keys()],
    status: () => ({
      nodeId: 'a',
      clusterId: 'fake-cluster',
      incarnation: 1,
      state: service.state,
      endpoint: '127.0.0.1:8001',
      roster: [
        {
          nodeId: 'a',
          endpoint: '127.0.0.1:8001',
          reachable: true,
          replicaId: 1,
          refused: false,
          voterOf: [0, 1, 2],
          learnerOf: [],
          readmittingIn: [],
        },
      ],
      partitions: [...machines.keys()].map(partitionStatus),
      wal: { writeCount: 0, syncCount: 0, entryCount: 0, bytesWritten: 0 },
      diskFull: false,
      timerLatenessMsMax: 0,
    }),
    on() {},
    off() {},
    async close() {},
    async [Symbol.asyncDispose]() {},
  };

  const service: FakeService = {
    node,
    machines,
    log: {
      async read({ fromIndex, endIndex, bytesMax }) {
        const count = Math.min(endIndex - fromIndex, Math.floor(bytesMax / fakeEntryBytes));
        return Array.from({ length: count }, (_, at) => ({
          ...proposedEntry(EntryKind.normal, new Uint8Array(fakeEntryBytes)),
          index: fromIndex + at,
          term: 3,
        }));
      },
    },
    calls,
    state: 'running',
    leader: 'a',
    backupPieces: [],
    fail(error) {
      failure = error;
    },
    heal() {
      failure = undefined;
    },
    hold() {
      const held = Promise.withResolvers<void>();
      gate = held.promise;
      return held.resolve;
    },
  };
  return service;
}

function rejectionOnAbort(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_, reject) => {
    signal?.addEventListener('abort', () => reject(fakeError('ABORTED')));
  });
}

// One node of the benchmark's cluster: a process that does what its parent asks (`node-requests.ts`) and ends with it.

import { writeFile } from 'node:fs/promises';
import { Session } from 'node:inspector/promises';
import { must, unreachable } from '../../src/base/assert.ts';
import { staticDiscovery } from '../../src/discovery/static.ts';
import {
  type CommittedEntry,
  type KommanderNode,
  type NodeId,
  type ObservedEvent,
  openNode,
  type PartitionId,
  type StateMachine,
} from '../../src/index.ts';
import type { Wal } from '../../src/ports/wal.ts';
import { grpcTransport } from '../../src/transport/grpc.ts';
import { memoryWal } from '../../src/wal/memory.ts';
import { rocksdbWal } from '../../src/wal/rocksdb.ts';
import { segmentWal } from '../../src/wal/segment.ts';
import { sqliteWal } from '../../src/wal/sqlite.ts';
import { ClosedLoop } from './closed-loop.ts';
import type {
  LoadRequest,
  Mark,
  NodeRequests,
  OpenRequest,
  ReplyMessage,
  RequestMessage,
  RequestName,
  TableProgress,
  WalEngine,
} from './node-requests.ts';
import { OpenLoop } from './open-loop.ts';
import { TableMachine, tableEntry } from './table-machine.ts';

/** Microseconds between two looks at what the processor does. */
const profileMicros = 500;
const leaderWaitMs = 20_000;
/** Entries of one write while the table is filled, and writes under way. */
const fillBatchEntries = 500;
const fillInFlight = 16;
const fillTimeoutMs = 30_000;

let node: KommanderNode | undefined;
let loop: ClosedLoop | OpenLoop | undefined;
let table: TableMachine | undefined;
let tableWriteCount = 0;
let openedMs = 0;
let profiler: Session | undefined;
const applied = { entryCount: 0, dataBytes: 0 };
let leaderChanges = 0;
const warnings = new Map<string, number>();

const answers: {
  readonly [Name in RequestName]: (
    request: NodeRequests[Name]['request'],
  ) => NodeRequests[Name]['reply'] | Promise<NodeRequests[Name]['reply']>;
} = {
  open,
  leaders,
  async transfer({ partitionId, to }) {
    await opened().transferLeadership(partitionId, to);
  },
  startLoad(load: LoadRequest) {
    loop = new ClosedLoop(opened(), load);
  },
  startSteadyLoad({ perSecond }) {
    loop = new OpenLoop({
      perSecond,
      call: () => opened().replicate(1, 'bench', nextTableEntry(), { forward: false }),
    });
  },
  async stopLoad() {
    const running = must(loop, 'a load was started');
    await running.stop();
    return running.record.completedCount;
  },
  mark,
  latencies: () => loop?.record.takeLatencies() ?? { count: 0, perMilleNanos: [] },
  applied: () => applied,
  fill: ({ entryCount }) => fill(entryCount),
  checkpoint: async () => (await opened().checkpoint(1, { timeoutMs: fillTimeoutMs })).index,
  tableProgress,
  tableChecksum: () => openedTable().checksum(),
  startProfile,
  stopProfile: ({ file }) => stopProfile(file),
  async close() {
    await opened().close();
  },
};

process.on('disconnect', () => process.exit(0));
process.on('message', (message) => void answer(message as RequestMessage));

async function answer({ id, name, body }: RequestMessage): Promise<void> {
  let reply: ReplyMessage;
  try {
    // The parent's side of the channel is typed by the same table.
    reply = { id, body: await answers[name](body as never) };
  } catch (error) {
    reply = { id, error: error instanceof Error ? (error.stack ?? error.message) : String(error) };
  }
  process.send?.(reply);
}

function walOf(engine: WalEngine, path: string): Wal {
  switch (engine) {
    case 'rocksdb':
      return rocksdbWal({ path });
    case 'segment':
      return segmentWal({ path });
    case 'sqlite':
      return sqliteWal({ path });
    case 'memory':
      return memoryWal();
    default:
      return unreachable(engine);
  }
}

async function open(request: OpenRequest): Promise<undefined> {
  const { nodeId, members, partitions, wal, path, tableBytes, snapshotsFrom } = request;
  node = await openNode({
    nodeId,
    members,
    partitions,
    listen: must(members[nodeId], 'a node is a member'),
    wal: walOf(wal, path),
    transport: grpcTransport(),
    discovery: staticDiscovery(members),
    stateMachine: () => (tableBytes > 0 ? newTable(tableBytes) : countingMachine),
    snapshotsFrom,
    logger: noteEvent,
    listeners: {
      leaderChanged({ partitionId, leader }) {
        if (partitionId > 0 && leader !== undefined) leaderChanges += 1;
      },
    },
  });
  openedMs = performance.now();
}

/** Looks at every entry, as any state machine does, and keeps none. */
const countingMachine: StateMachine = {
  apply(entries: readonly CommittedEntry[]): void {
    applied.entryCount += entries.length;
    for (const { data } of entries) applied.dataBytes += data.byteLength;
  },
};

function noteEvent({ level, name }: ObservedEvent): void {
  if (level === 'warn' || level === 'error') warnings.set(name, (warnings.get(name) ?? 0) + 1);
}

async function leaders(): Promise<readonly NodeId[]> {
  const partitionIds = opened()
    .partitionIds()
    .filter((partitionId: PartitionId) => partitionId > 0);
  return Promise.all(
    partitionIds.map((partitionId: PartitionId) =>
      opened().waitForLeader(partitionId, { timeoutMs: leaderWaitMs }),
    ),
  );
}

function mark(): Mark {
  const { user, system } = process.cpuUsage();
  const figures: Mark = {
    atMs: performance.now(),
    cpuMicros: user + system,
    wal: opened().status().wal,
    completedCount: loop?.record.completedCount ?? 0,
    failures: Object.fromEntries(loop?.record.failures ?? []),
    warnings: Object.fromEntries(warnings),
    leaderChanges,
  };
  return figures;
}

function newTable(byteLength: number): TableMachine {
  table = new TableMachine(byteLength);
  return table;
}

function nextTableEntry(): Uint8Array {
  tableWriteCount += 1;
  return tableEntry(tableWriteCount);
}

async function fill(entryCount: number): Promise<undefined> {
  let leftCount = entryCount;
  const write = async (): Promise<void> => {
    while (leftCount > 0) {
      const length = Math.min(leftCount, fillBatchEntries);
      leftCount -= length;
      const inputs = Array.from({ length }, () => ({ type: 'bench', data: nextTableEntry() }));
      await opened().replicate(1, inputs, { forward: false, timeoutMs: fillTimeoutMs });
    }
  };
  await Promise.all(Array.from({ length: fillInFlight }, write));
}

function tableProgress(): TableProgress {
  const { partitions, timerLatenessMsMax } = opened().status();
  const partition = partitions.find(({ partitionId }) => partitionId === 1);
  const { lastApplied, compactedIndex } = must(partition, 'there is a partition 1');
  const { byteLength, appliedCount, restores } = openedTable();
  const places = { lastApplied, compactedIndex, tableBytes: byteLength, appliedCount, restores };
  return { atMs: performance.now(), openedMs, ...places, timerLatenessMsMax };
}

async function startProfile(): Promise<undefined> {
  profiler = new Session();
  profiler.connect();
  await profiler.post('Profiler.enable');
  await profiler.post('Profiler.setSamplingInterval', { interval: profileMicros });
  await profiler.post('Profiler.start');
}

async function stopProfile(file: string): Promise<undefined> {
  const session = must(profiler, 'a profile was started');
  const { profile } = await session.post('Profiler.stop');
  session.disconnect();
  await writeFile(file, JSON.stringify(profile));
}

function openedTable(): TableMachine {
  return must(table, 'the node has a table');
}

function opened(): KommanderNode {
  return must(node, 'the node is open');
}

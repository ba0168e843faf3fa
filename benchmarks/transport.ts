// How fast do frames travel between two processes over the gRPC transport? Appends go one way in the bulk lane, one
// message per frame, 64 in flight; the receiver answers each with an `appendEntriesResponse` in the control lane.
//
//   node benchmarks/transport.ts [--seconds 3] [--in-flight 64] [--json]
//
// Expected on two cores with loopback: at least 98,000 to 150,000 messages/s with one small entry each, 5 M entries/s at
// 100 × 16 B, 490 to 630 MB/s at 100 × 1 KiB. Measured on such a machine, otherwise idle: 251,000 messages/s (4.1 µs of
// CPU each, answer included), 11.5 M entries/s, 590 to 750 MB/s. Both processes decode, check and answer, as nodes do,
// but nothing is stored. CPU is that of both processes together.

import { fork } from 'node:child_process';
import { parseArgs } from 'node:util';
import { layOutRun } from '../src/ports/run.ts';
import { type Frame, Lane, type TransportContext } from '../src/ports/transport.ts';
import { type Entry, EntryKind } from '../src/raft/types.ts';
import { systemClock } from '../src/time/system-clock.ts';
import { grpcTransport } from '../src/transport/grpc.ts';

interface Load {
  readonly name: string;
  readonly entries: number;
  readonly payloadBytes: number;
}

const loads: readonly Load[] = [
  { name: '1 × 16 B', entries: 1, payloadBytes: 16 },
  { name: '100 × 16 B', entries: 100, payloadBytes: 16 },
  { name: '100 × 1 KiB', entries: 100, payloadBytes: 1_024 },
  { name: '1000 × 1 KiB', entries: 1_000, payloadBytes: 1_024 },
];

/** What the receiving process tells about itself. */
interface ReceiverReport {
  readonly endpoint?: string;
  readonly cpuMicros?: number;
}

if (process.argv[2] === 'receiver') await receive(process.argv[3] ?? '');
else await main();

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      seconds: { type: 'string', default: '3' },
      'in-flight': { type: 'string', default: '64' },
      json: { type: 'boolean', default: false },
    },
  });
  const results = [];
  for (const load of loads) {
    const result = await measure(load, Number(values.seconds), Number(values['in-flight']));
    results.push(result);
    if (!values.json) console.log(line(result));
  }
  if (values.json) console.log(JSON.stringify({ benchmark: 'transport', results }));
}

interface Result {
  readonly load: string;
  readonly messagesPerSecond: number;
  readonly entriesPerSecond: number;
  readonly megabytesPerSecond: number;
  readonly cpuMicrosPerMessage: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

function line(result: Result): string {
  return [
    result.load.padEnd(14),
    `${result.messagesPerSecond.toLocaleString('en')} messages/s`.padStart(20),
    `${result.entriesPerSecond.toLocaleString('en')} entries/s`.padStart(22),
    `${result.megabytesPerSecond} MB/s`.padStart(11),
    `${result.cpuMicrosPerMessage} µs CPU/message`.padStart(23),
    `p50 ${result.p50Ms} ms, p99 ${result.p99Ms} ms`,
  ].join('  ');
}

async function measure(load: Load, seconds: number, inFlightMax: number): Promise<Result> {
  const transport = grpcTransport();
  const sentAt: number[] = [];
  const latencies: number[] = [];
  let isMeasuring = false;
  let inFlight = 0;
  let answered = 0;
  let resolveReachable = (): void => {};
  const isReachable = new Promise<void>((resolve) => {
    resolveReachable = resolve;
  });
  const frame = appendOf(load);
  const context: TransportContext = {
    ...contextOf('sender'),
    receive(_from, _lane, received) {
      for (const item of received.items) {
        if (item.kind !== 'raft' || item.message.type !== 'appendEntriesResponse') continue;
        inFlight -= 1;
        const startedMs = sentAt.shift() ?? 0;
        if (!isMeasuring) continue;
        answered += 1;
        if (answered % 16 === 0) latencies.push(performance.now() - startedMs);
      }
      fill();
    },
    reachable(_peer, reachable) {
      if (reachable) resolveReachable();
    },
  };
  const endpoint = await transport.open(context);
  const receiver = fork(import.meta.filename, ['receiver', endpoint], { stdio: 'inherit' });
  transport.setPeer('receiver', (await reportOf(receiver)).endpoint);
  await isReachable;
  // Both directions have to be there before the first frame, or its answer would be lost.
  await pause(300);
  fill();
  await pause(500);
  receiver.send('cpu');
  const receiverCpu = (await reportOf(receiver)).cpuMicros ?? 0;
  const ownCpu = cpuMicros();
  isMeasuring = true;
  const startedMs = performance.now();
  await pause(seconds * 1_000);
  isMeasuring = false;
  const elapsed = (performance.now() - startedMs) / 1_000;
  receiver.send('cpu');
  const cpu = ((await reportOf(receiver)).cpuMicros ?? 0) - receiverCpu + cpuMicros() - ownCpu;
  await transport.close();
  receiver.send('stop');
  await new Promise((resolve) => receiver.once('exit', resolve));
  latencies.sort((a, b) => a - b);
  const at = (part: number): number =>
    Number((latencies[Math.floor(latencies.length * part)] ?? 0).toFixed(2));
  return {
    load: load.name,
    messagesPerSecond: Math.round(answered / elapsed),
    entriesPerSecond: Math.round((answered * load.entries) / elapsed),
    megabytesPerSecond: Math.round((answered * load.entries * load.payloadBytes) / elapsed / 1e6),
    cpuMicrosPerMessage: Number((cpu / answered).toFixed(1)),
    p50Ms: at(0.5),
    p99Ms: at(0.99),
  };

  function fill(): void {
    while (inFlight < inFlightMax && transport.send('receiver', Lane.bulk, frame)) {
      inFlight += 1;
      sentAt.push(performance.now());
    }
  }
}

async function receive(senderEndpoint: string): Promise<void> {
  const transport = grpcTransport();
  const endpoint = await transport.open({
    ...contextOf('receiver'),
    receive(from, _lane, frame) {
      for (const item of frame.items) {
        if (item.kind !== 'raft' || item.message.type !== 'appendEntries') continue;
        transport.send(from, Lane.control, answerTo(item.message.entries.at(-1)));
      }
    },
  });
  transport.setPeer('sender', senderEndpoint);
  process.on('message', (wish) => {
    if (wish === 'cpu') process.send?.({ cpuMicros: cpuMicros() } satisfies ReceiverReport);
    else void transport.close().then(() => process.disconnect());
  });
  process.send?.({ endpoint } satisfies ReceiverReport);
}

function contextOf(nodeId: string): TransportContext {
  return {
    identity: { clusterId: 'benchmark', nodeId, incarnation: 1, startId: 'one' },
    listen: '127.0.0.1:0',
    clock: systemClock,
    observer: (event) => {
      if (event.level === 'error' || event.level === 'warn') console.error(event);
    },
    status: { statusJson: () => '{}' },
    receive: () => {},
    reachable: () => {},
    refused: () => {},
  };
}

/** The same frame is sent again and again: encoding the run once is what a cluster does, too. */
function appendOf(load: Load): Frame {
  const proposed = layOutRun(
    Array.from({ length: load.entries }, () => ({
      kind: EntryKind.normal,
      byteLength: load.payloadBytes,
      write: (target: Uint8Array, offset: number) => target.fill(7, offset),
    })),
  );
  const entries = proposed.map((entry, i) => ({ index: i + 1, term: 1, ...entry }));
  const message = {
    type: 'appendEntries',
    from: 1,
    to: 2,
    term: 1,
    prevLogIndex: 0,
    prevLogTerm: 0,
    entries,
    leaderCommit: 0,
  } as const;
  return { timestamp: 1, items: [{ kind: 'raft', partitionId: 1, message }] };
}

function answerTo(last: Entry | undefined): Frame {
  const message = {
    type: 'appendEntriesResponse',
    from: 2,
    to: 1,
    term: 1,
    index: last?.index ?? 0,
    rejected: false,
    hintIndex: 0,
    hintTerm: 0,
  } as const;
  return { timestamp: 1, items: [{ kind: 'raft', partitionId: 1, message }] };
}

function reportOf(receiver: ReturnType<typeof fork>): Promise<ReceiverReport> {
  return new Promise((resolve) => {
    receiver.once('message', (report) => resolve(report as ReceiverReport));
  });
}

function cpuMicros(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
  });
}

// `kommander replay` as a user runs it: what it prints of a file of evidence, how it ends, what it says of a file that is
// none; and that `kommander serve` leaves such files in its data directory.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { EvidenceBundle } from '../src/host/evidence.ts';
import { encodeEvidence } from '../src/host/evidence-file.ts';
import { OutgoingPayload, typeBytes } from '../src/host/payload.ts';
import { layOutRun } from '../src/ports/run.ts';
import { openServer } from '../src/server/serve.ts';
import { rocksdbWal } from '../src/wal/rocksdb.ts';
import { eventually, serveOptions } from './server-support.ts';
import { evidenceSample } from './support/evidence-sample.ts';
import { freePorts } from './support/ports.ts';

const entryFile = fileURLToPath(new URL('../src/server/main.ts', import.meta.url));
const sampleFile = fileURLToPath(new URL('./fixtures/evidence.ndjson', import.meta.url));

interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

async function kommander(...parameters: readonly string[]): Promise<Outcome> {
  const child = spawn(process.execPath, [entryFile, ...parameters], { stdio: 'pipe' });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (text) => {
    stdout += text;
  });
  child.stderr.on('data', (text) => {
    stderr += text;
  });
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, stdout, stderr };
}

function temporaryDirectory(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'kommander-replay-'));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

const shown = `evidence of node b, partition 7, taken 2026-01-02T00:00:00.000Z
kommander 0.1.0, cluster f00d, start 3 of the node
replicas: a=1 b=2; this one is 2
stopped: AssertionError: broken rule: only entries of the log are committed
begins as follower of term 3: lastIndex 4, commitIndex 4, appliedIndex 4

#1 tick
  … the input above once more, up to #2
#3 tick
#4 step appendEntries from a, term 3: 2 entries of 40 bytes behind 4 (term 2), leaderCommit 4
    sends appendEntriesResponse to a, term 3: matches up to 6
    lastIndex 4 → 6
#5 step heartbeat from a, term 3: leaderCommit 9

the failure came again at input #5: AssertionError: broken rule: only entries of the log are committed
the core ended in the recorded state: term 3, votedFor a, role follower, leader a, compactedIndex 0, lastIndex 6, stableIndex 4, commitIndex 4, appliedIndex 4
`;

test('replay shows each input and what the core decided, and that the failure came again', async () => {
  assert.deepEqual(await kommander('replay', sampleFile), { code: 0, stdout: shown, stderr: '' });
});

test('replay --from leaves out what came before, and does it all the same', async () => {
  const { code, stdout } = await kommander('replay', sampleFile, '--from', '4');
  assert.equal(code, 0);
  assert.equal(stdout, shown.replace(/#1 tick[\s\S]*?(?=#4)/, ''));
});

test('replay --json prints lines of JSON, the outcome last', async () => {
  const { code, stdout } = await kommander('replay', sampleFile, '--json');
  assert.equal(code, 0);
  const lines = stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  assert.deepEqual(
    lines.map(({ number, times }) => [number, times]),
    [
      [1, 2],
      [3, 1],
      [4, 1],
      [5, 1],
      [undefined, undefined],
    ],
  );
  const { events, changes } = lines[2] ?? {};
  const response = {
    ...{ type: 'appendEntriesResponse', from: 2, to: 1, term: 3, index: 6 },
    ...{ rejected: false, hintIndex: 0, hintTerm: 0 },
  };
  assert.deepEqual(events, [{ type: 'sent', message: response }]);
  assert.deepEqual(changes, [{ name: 'lastIndex', before: 4, after: 6 }]);
  const { outcome } = lines.at(-1) as { outcome: Record<string, unknown> };
  assert.equal(outcome.kind, 'reproduced');
  assert.deepEqual(outcome.differences, []);
});

test('a replay that does not end as recorded says how, with exit code 1', async (t) => {
  const directory = temporaryDirectory(t);
  const { record, failure } = evidenceSample;
  const asked = { input: { kind: 'tick' }, answers: [{ kind: 'drawn', value: 1 }] } as const;
  const cases: [Partial<EvidenceBundle>, RegExp][] = [
    [{ record: { ...record, cycles: [] } }, /the failure did not come again: AssertionError/],
    [{ failure: undefined }, /another failure came at input #5: .*\nrecorded was no failure/],
    [
      { failure: { ...failure, name: 'Error', message: 'other', stack: '' } },
      /another failure came .*\nrecorded was Error: other/,
    ],
    [
      { record: { ...record, cycles: [{ times: 1, steps: [asked] }] } },
      /another way at input #1: .*\nuse the version/,
    ],
    [
      { record: { ...record, end: { ...record.end, currentTerm: 8 } } },
      /came again[\s\S]*did not end in the recorded state: currentTerm/,
    ],
  ];
  for (const [position, [changes, message]] of cases.entries()) {
    const file = join(directory, `${position}.ndjson`);
    writeFileSync(file, encodeEvidence({ ...evidenceSample, ...changes }));
    const { code, stdout, stderr } = await kommander('replay', file);
    assert.match(stdout, message);
    assert.deepEqual([code, stderr], [1, '']);
  }
});

test('a file that is none, or a number that is none, is refused in words', async (t) => {
  const directory = temporaryDirectory(t);
  const cut = join(directory, 'cut.ndjson');
  writeFileSync(cut, readFileSync(sampleFile, 'utf8').slice(0, 3_000));
  const cases: [readonly string[], RegExp, number][] = [
    [
      [join(directory, 'missing')],
      /cannot be read: ENOENT.*check the path \(INVALID_ARGUMENT\)/,
      1,
    ],
    [[entryFile], /this is no file of evidence.* \(EVIDENCE_MALFORMED\)/, 1],
    [[cut], /the file ends early: copy it again \(EVIDENCE_MALFORMED\)/, 1],
    [[sampleFile, '--from', '0'], /--from: "0" is no number of an input/, 2],
    [[], /missing required argument 'FILE'/, 2],
  ];
  for (const [parameters, message, exitCode] of cases) {
    const { code, stdout, stderr } = await kommander('replay', ...parameters);
    assert.match(stderr, message);
    assert.deepEqual([code, stdout], [exitCode, '']);
  }
});

test('a server whose replica stops leaves evidence in its data directory, which replay reads', async (t) => {
  const data = join(temporaryDirectory(t), 'a');
  const [port] = await freePorts(1);
  const members = { a: `127.0.0.1:${port}` };
  const options = serveOptions('a', members, { data, wal: 'rocksdb', partitions: 1 });
  const server = await openServer(options, () => {});
  await eventually('the partition has a leader', () => server.node.isLeader(1));
  await server.close();
  await appendUnknownEntry(data);

  const { code, stderr } = await kommander(
    ...['serve', '--node-id', 'a', '--members', `a=${members.a}`, '--http', '127.0.0.1:0'],
    ...['--data', data, '--partitions', '1'],
  );
  assert.equal(code, 1, stderr);
  const [name = ''] = readdirSync(join(data, 'evidence'));
  assert.match(name, /-a-p1\.ndjson$/);
  const file = join(data, 'evidence', name);
  assert.ok(stderr.includes(file), 'the log names the file');

  // The entry means nothing to the host; the core did nothing wrong.
  const replayed = await kommander('replay', file);
  assert.match(replayed.stdout, /did not come again: Error: .*_later/);
  assert.match(replayed.stdout, /the core ended in the recorded state/);
  assert.equal(replayed.code, 1);
});

/** A committed entry of a type that only a later version of the library knows. */
async function appendUnknownEntry(path: string): Promise<void> {
  const wal = rocksdbWal({ path });
  const { partitions } = await wal.open();
  const stored = partitions.find(({ partitionId }) => partitionId === 1);
  const [proposed] = layOutRun([new OutgoingPayload(typeBytes('_later'), new Uint8Array(1))]);
  assert.ok(stored !== undefined && proposed !== undefined);
  const index = stored.lastIndex + 1;
  await wal.write({
    writes: [
      {
        partitionId: 1,
        hardState: { ...stored.hardState, commitIndex: index },
        base: undefined,
        resetLog: false,
        entries: [{ ...proposed, index, term: stored.hardState.term }],
        compactThroughIndex: undefined,
      },
    ],
    meta: new Map(),
    sync: true,
  });
  await wal.close();
}

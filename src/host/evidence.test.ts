// What a replica leaves when it stops on a broken rule: whether, where and how many files; what is in them; and that
// they can be done again.

import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { evidenceSample as sample } from '../../test/support/evidence-sample.ts';
import { impostorOf } from '../../test/support/impostor.ts';
import { type NodeCluster, nodeCluster, text } from '../../test/support/node-cluster.ts';
import { must } from '../base/assert.ts';
import { isKommanderError, type KommanderError } from '../base/errors.ts';
import { staticDiscovery } from '../discovery/static.ts';
import { virtualClock } from '../testing/virtual-clock.ts';
import { memoryNetwork } from '../transport/memory.ts';
import { memoryWal } from '../wal/memory.ts';
import { closeHost } from './closing.ts';
import { type EvidenceBundle, evidenceOf, recordingBytesFor } from './evidence.ts';
import { encodeEvidence, parseEvidence, writeEvidence } from './evidence-file.ts';
import { type EvidenceRound, type EvidenceStep, replayEvidence } from './evidence-replay.ts';
import { openHost } from './opening.ts';

function temporaryDirectory(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'kommander-evidence-'));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** The failure of the replica of partition 1 on node a, which leads it. */
async function breakRule(cluster: NodeCluster): Promise<KommanderError> {
  await cluster.openAll();
  await cluster.makeLeader('a');
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('before')));
  await using impostor = await impostorOf(cluster, 'c');
  cluster.network.setLink('a', 'b', 'drop');
  const pending = cluster.driveFailure(cluster.node('a').replicate(1, 'put', text('secret data')));
  impostor.claimLeadership('a');
  const error = await pending;
  assert.ok(isKommanderError(error, 'REPLICA_STOPPED'), String(error));
  return error;
}

test('a replica that breaks a rule leaves a file, which the error and the event name, and which replays', async (t) => {
  const directory = join(temporaryDirectory(t), 'made', 'later');
  await using cluster = nodeCluster({ settings: { evidenceDirectory: directory } });
  const error = await breakRule(cluster);
  const [name = '', ...others] = readdirSync(directory);
  assert.deepEqual(others, []);
  assert.match(name, /^evidence-2026-01-01T00-00-\d\d\.\d{3}Z-a-p1\.ndjson$/);
  const path = join(directory, name);
  assert.deepEqual(error.details, { partitionId: 1, evidence: path });
  assert.ok(error.message.includes(path));
  const stopped = cluster.seat('a').observed.find((event) => event.name === 'replica-stopped');
  assert.equal(stopped?.fields.evidence, path);
  assert.equal(statSync(path).mode & 0o777, 0o600);
  assert.equal(statSync(directory).mode & 0o777, 0o700);

  const content = readFileSync(path, 'utf8');
  for (const data of ['secret', Buffer.from('secret').toString('hex')]) {
    assert.ok(!content.includes(data), 'no data of the application');
  }
  const bundle = parseEvidence(content);
  assert.equal(bundle.failure?.message, 'broken rule: Invariant: a term has one leader');
  assert.match(bundle.failure?.stack ?? '', /followSender/);
  assert.deepEqual(bundle.replicaIds, { a: 1, b: 2, c: 3 });
  assert.equal(bundle.libraryVersion, packageVersion());
  const rounds: EvidenceRound[] = [];
  const outcome = replayEvidence(bundle, (round) => rounds.push(round));
  assert.equal(outcome.kind, 'reproduced');
  assert.deepEqual(outcome.differences, []);
  assert.equal(outcome.end.leader, 'a');
  const last = must(rounds.at(-1)?.steps.at(-1), 'something was done');
  assert.match(last.input, /^step appendEntries from c, term \d+: no entries/);
});

function packageVersion(): string {
  const packageFile = new URL('../../package.json', import.meta.url);
  return (JSON.parse(readFileSync(packageFile, 'utf8')) as { version: string }).version;
}

test('a state machine that throws is no matter of the core: there is no evidence', async (t) => {
  const directory = temporaryDirectory(t);
  await using cluster = nodeCluster({
    nodes: 1,
    settings: { evidenceDirectory: directory },
    machine: () => ({
      apply() {
        throw new Error('the machine fails');
      },
    }),
  });
  await cluster.openAll();
  await cluster.leader();
  const error = await cluster.driveFailure(cluster.node('a').replicate(1, 'put', text('x')));
  assert.equal(error.code, 'APPLY_FAILED');
  assert.deepEqual(readdirSync(directory), []);
});

test('without a directory nothing is written, and the replica stops all the same', async () => {
  await using cluster = nodeCluster();
  const error = await breakRule(cluster);
  assert.deepEqual(error.details, { partitionId: 1 });
  assert.doesNotMatch(error.message, /evidence/);
});

test('a directory that cannot be written is reported, and the replica stops all the same', async (t) => {
  const file = join(temporaryDirectory(t), 'file');
  writeFileSync(file, '');
  await using cluster = nodeCluster({ settings: { evidenceDirectory: join(file, 'below') } });
  const error = await breakRule(cluster);
  assert.deepEqual(error.details, { partitionId: 1 });
  const { observed } = cluster.seat('a');
  const report = must(
    observed.find(({ name }) => name === 'evidence-not-written'),
    'the failure is reported',
  );
  assert.match(String(report.fields.error), /ENOTDIR/);
});

test('one life of a node writes 16 files, whatever stops', async (t) => {
  const directory = temporaryDirectory(t);
  const partitions = 20;
  await using cluster = nodeCluster({ partitions, settings: { evidenceDirectory: directory } });
  await cluster.openAll();
  for (let id = 1; id <= partitions; id++) await cluster.makeLeader('a', id);
  await using impostor = await impostorOf(cluster, 'c');
  for (let id = 1; id <= partitions; id++) impostor.claimLeadership('a', id);
  await cluster.time.settle();
  const stopped = cluster
    .node('a')
    .status()
    .partitions.filter((each) => each.stopped);
  assert.equal(stopped.length, partitions);
  assert.equal(readdirSync(directory).length, 16);
  const reports = cluster
    .seat('a')
    .observed.filter((event) => event.name === 'evidence-not-written');
  assert.equal(reports.length, partitions - 16);
});

test('evidence is taken of a replica that goes on, too', async () => {
  const clock = virtualClock();
  const members = { a: '127.0.0.1:1' };
  const host = await openHost({
    ...{ nodeId: 'a', listen: members.a, members, clock, seed: 1 },
    ...{ wal: memoryWal(), transport: memoryNetwork().transport() },
    discovery: staticDiscovery(members),
  });
  await clock.run(3_000);
  const bundle = evidenceOf(host, must(host.partitions.get(1), 'there is a partition'));
  assert.equal(bundle.failure, undefined);
  assert.deepEqual(parseEvidence(encodeEvidence(bundle)).record.end, plain(bundle.record.end));
  const outcome = replayEvidence(bundle, () => {});
  assert.deepEqual([outcome.kind, outcome.differences, outcome.end.role], ['clean', [], 'leader']);
  const closing = closeHost(host);
  await clock.run(10_000);
  await closing;
});

test('many partitions have shorter recordings, within bounds', () => {
  assert.equal(recordingBytesFor(2), 131_072);
  assert.equal(recordingBytesFor(256), 131_072);
  assert.equal(recordingBytesFor(1_024), 32_768);
  assert.equal(recordingBytesFor(65_536), 8_192);
});

test('the sample replays to its failure, and repetitions are told once', () => {
  const rounds: EvidenceRound[] = [];
  const outcome = replayEvidence(sample, (round) => rounds.push(round));
  assert.equal(outcome.kind, 'reproduced');
  assert.deepEqual(outcome.differences, []);
  const told = rounds.map(({ number, times, steps }) => [number, times, steps.map(textOf)]);
  assert.deepEqual(told, [
    [1, 2, [['tick']]],
    [
      3,
      1,
      [
        ['tick'],
        [
          'step appendEntries from a, term 3: 2 entries of 40 bytes behind 4 (term 2), leaderCommit 4',
          'sends appendEntriesResponse to a, term 3: matches up to 6',
          'lastIndex 4 → 6',
        ],
        ['step heartbeat from a, term 3: leaderCommit 9'],
      ],
    ],
  ]);
});

function textOf({ input, decisions }: EvidenceStep): string[] {
  return [input, ...decisions];
}

test('a replay that ends otherwise says how', () => {
  const { record } = sample;
  const cut = { ...record, cycles: record.cycles.slice(0, 1) };
  const other = { name: 'AssertionError', message: 'something else', stack: undefined };
  const asked = { input: { kind: 'tick' }, answers: [{ kind: 'drawn', value: 1 }] } as const;
  const strange = { ...record, cycles: [{ times: 1, steps: [asked] }] };
  const kinds = [
    { ...sample, record: cut },
    { ...sample, failure: undefined, record: { ...cut, end: record.begin } },
    { ...sample, failure: other },
    { ...sample, failure: undefined },
    { ...sample, record: strange },
  ].map((bundle) => replayEvidence(bundle, () => {}).kind);
  const expected = ['notReproduced', 'clean', 'otherFailure', 'otherFailure', 'diverged'];
  assert.deepEqual(kinds, expected);
});

test('the format of the file does not change: version 1', () => {
  const golden = readFileSync(
    new URL('../../test/fixtures/evidence.ndjson', import.meta.url),
    'utf8',
  );
  assert.equal(encodeEvidence(sample), golden);
  assert.deepEqual(plain(parseEvidence(golden)), plain(inSingleSteps(sample)));
});

test('the page about evidence names every field of the first line', () => {
  const page = readFileSync(new URL('../../docs/internals/evidence.md', import.meta.url), 'utf8');
  const heading = JSON.parse(encodeEvidence(sample).split('\n')[0] ?? '') as object;
  const missing = Object.keys(heading).filter((name) => !page.includes(`\`${name}\``));
  assert.deepEqual(missing, []);
});

/** Only repetitions stay together in the file. */
function inSingleSteps(bundle: EvidenceBundle): EvidenceBundle {
  const cycles = bundle.record.cycles.flatMap((cycle) =>
    cycle.times > 1 ? [cycle] : cycle.steps.map((step) => ({ times: 1, steps: [step] })),
  );
  return { ...bundle, record: { ...bundle.record, cycles } };
}

function plain(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value));
}

test('a file that is no whole evidence is refused, and the message says what to do', () => {
  const whole = encodeEvidence(sample);
  const cases: [string, RegExp][] = [
    ['', /no file of evidence/],
    ['hello\n', /no file of evidence/],
    ['[]\n{}\n', /no file of evidence/],
    ['null', /no file of evidence/],
    [whole.replace('"version":1', '"version":2'), /version 2 .* reads 1; use kommander 0\.1\.0/],
    [whole.slice(0, -1), /ends early/],
    [whole.slice(0, whole.length / 2), /ends early/],
    [whole.split('\n')[0] ?? '', /ends early/],
    [whole.replace('"commitIndex":4', '"commitIndex":5'), /was changed/],
    [whole.split('\n').toSpliced(2, 1).join('\n'), /was changed/],
  ];
  for (const [content, message] of cases) {
    assert.throws(
      () => parseEvidence(content),
      (error) => {
        assert.ok(isKommanderError(error, 'EVIDENCE_MALFORMED'), String(error));
        assert.match(error.message, message);
        return true;
      },
    );
  }
});

test('a directory keeps the 16 youngest files, and what is not its own', (t) => {
  const directory = temporaryDirectory(t);
  const foreign = ['evidence.txt', 'a-note.ndjson'];
  for (const name of foreign) writeFileSync(join(directory, name), '');
  for (let day = 1; day <= 20; day++) {
    writeEvidence(directory, { ...sample, takenAtMs: Date.UTC(2026, 0, day) });
  }
  // The wall clock was set back: the new file stays, and the oldest of the others goes.
  const early = writeEvidence(directory, { ...sample, takenAtMs: Date.UTC(2025, 0, 1) });
  const names = readdirSync(directory).filter((name) => !foreign.includes(name));
  assert.equal(names.length, 16);
  assert.ok(names.includes(basename(early)));
  assert.equal(names.sort()[1], 'evidence-2026-01-06T00-00-00.000Z-b-p7.ndjson');
  assert.equal(readdirSync(directory).length, 18);
});

// `kommander wal` as a user types it: what is printed, exit codes, refusals, and that nothing is written where nothing may be.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { utf8Bytes } from '../../src/base/bytes.ts';
import { isKommanderError } from '../../src/base/errors.ts';
import { staticDiscovery } from '../../src/discovery/static.ts';
import { openNode } from '../../src/host/node.ts';
import type { StateMachine } from '../../src/ports/state-machine.ts';
import { memoryNetwork } from '../../src/transport/memory.ts';
import { encodeHardState, encodeMeta } from '../../src/wal/record.ts';
import { rocksdbWal } from '../../src/wal/rocksdb.ts';
import { KeyKind, metaKey, partitionKey, runKey } from '../../src/wal/rocksdb-keys.ts';
import { lockStoreForReading } from '../../src/wal/store-lock.ts';
import { eventually } from '../server-support.ts';
import { durableEngines } from '../support/durable-engines.ts';
import { flipBlob } from '../support/sqlite-files.ts';
import {
  damageFile,
  fillStore,
  fingerprint,
  flipped,
  newDirectory,
  openerOf,
  tamper,
} from '../support/stored-directory.ts';

const entryFile = fileURLToPath(new URL('../../src/server/main.ts', import.meta.url));

interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function wal(...parameters: readonly string[]): Promise<Outcome> {
  const child = spawn(process.execPath, [entryFile, 'wal', ...parameters], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (text) => {
    stdout += text;
  });
  child.stderr.on('data', (text) => {
    stderr += text;
  });
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, stdout, stderr }));
  });
}

interface ReportJson {
  readonly engine: string;
  readonly node: { readonly members: readonly unknown[] };
  readonly partitions: readonly { readonly termRuns: readonly unknown[] }[];
  readonly damages: readonly { readonly index: number | null }[];
  readonly damageCount: number;
}

function jsonOf(text: string): ReportJson {
  return JSON.parse(text) as ReportJson;
}

/** The store of a node of a cluster of one, with entries of every kind in partition 1. */
async function nodeStore(path: string, engine = 'rocksdb', machine?: StateMachine): Promise<void> {
  const members = { a: '127.0.0.1:1' };
  const node = await openNode({
    nodeId: 'a',
    listen: '127.0.0.1:1',
    members,
    wal: openerOf(engine)(path),
    transport: memoryNetwork().transport(),
    discovery: staticDiscovery(members),
    ...(machine === undefined ? {} : { stateMachine: () => machine, trailingEntries: 0 }),
  });
  await node.waitForLeader(1);
  await node.replicate(1, 'note', utf8Bytes('grüße\n'));
  await node.replicate(1, 'blob', Uint8Array.of(0, 255, 1));
  await node.replicate(1, 'long', utf8Bytes('ä'.repeat(500)));
  await node.replicate(1, 'none', new Uint8Array(0));
  await node.checkpoint(1);
  await eventually('the system partition holds its genesis', () =>
    node.status().partitions.some((each) => each.partitionId === 0 && each.lastApplied === 2),
  );
  if (machine !== undefined) {
    await eventually('the snapshot is the base of the log', () =>
      node.status().partitions.some((each) => each.partitionId === 1 && each.compactedIndex === 6),
    );
  }
  await node.close();
}

test('inspect shows whose store it is, every partition, and entries; it writes nothing', async (t) => {
  const path = join(await newDirectory(t), 'store');
  await nodeStore(path);
  const before = await fingerprint(path);
  const shown = await wal('inspect', path);
  assert.equal(shown.code, 0, shown.stderr);
  const [head, node, cluster, columns, system, one] = shown.stdout.split('\n');
  assert.equal(head, `${path}: engine rocksdb, version 1`);
  assert.match(node ?? '', /^node a, cluster [0-9a-f]{32}, start 1$/);
  assert.equal(cluster, 'formed by a=127.0.0.1:1; 1 partitions');
  assert.match(
    columns ?? '',
    /^partition +first +last +entries +bytes +terms +term +voted for +commit/,
  );
  assert.match(system ?? '', /^0 +1 +2 +2 +\d+ +1 +1 +1 +2 +0 +- +0$/);
  assert.match(one ?? '', /^1 +1 +6 +6 +\d+ +1 +1 +1 +6 +6 +- +0$/);

  const json = jsonOf((await wal('inspect', path, '--json')).stdout);
  assert.equal(json.engine, 'rocksdb');
  const members = [{ nodeId: 'a', replicaId: 1, endpoint: '127.0.0.1:1', nonce: null }];
  assert.deepEqual(json.node.members, members);
  assert.deepEqual(json.partitions[1]?.termRuns, [{ firstIndex: 1, term: 1 }]);
  assert.deepEqual([json.damageCount, json.damages], [0, []]);

  const entries = (await wal('inspect', path, '--partition', '1')).stdout.split('\n');
  assert.match(entries[0] ?? '', /^1 {2}term 1 {2}newTerm {2}- {2}- {2}""$/);
  assert.match(entries[1] ?? '', /^2 {2}term 1 {2}normal {2}note {2}\S+ {2}"grüße\\n"$/);
  assert.match(entries[2] ?? '', /blob {2}\S+ {2}0x00ff01$/);
  assert.match(entries[3] ?? '', /long {2}\S+ {2}"ä{32}"… \(1000 bytes\)$/);
  assert.match(entries[4] ?? '', /none {2}\S+ {2}""$/);
  const unknown = await wal('inspect', path, '--partition', '2');
  assert.deepEqual([unknown.code, unknown.stdout], [1, '']);
  assert.match(unknown.stderr, /has nothing of partition 2 \(UNKNOWN_PARTITION\)/);
  assert.match(entries[5] ?? '', /_checkpoint {2}\S+ {2}0x0[0-9a-f]{15}$/);
  const some = await wal(
    'inspect',
    path,
    '--partition',
    '1',
    '--from',
    '3',
    '--count',
    '2',
    '--json',
  );
  const lines = some.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  assert.deepEqual(
    lines.map(({ index, type, hex, bytes, isCut }) => [index, type, hex, bytes, isCut]),
    [
      [3, 'blob', '00ff01', 3, false],
      [4, 'long', null, 1_000, true],
    ],
  );
  assert.deepEqual(await fingerprint(path), before);
});

test('verify exits with 0 for a whole store, 1 for a damaged one, 2 when it could not look', async (t) => {
  const directory = await newDirectory(t);
  const path = join(directory, 'store');
  await nodeStore(path);
  const whole = await wal('verify', path);
  assert.equal(whole.code, 0, whole.stderr);
  assert.match(whole.stdout, /^read: 2 partitions, 8 entries, \d+ bytes\nthe store is whole$/m);

  await tamper(path, { key: runKey(1, 3), value: await flipped(path, runKey(1, 3), -1) });
  const meaningless = encodeMeta(Uint8Array.of(1, 2, 3));
  await tamper(path, { key: metaKey('genesis'), value: meaningless });
  const before = await fingerprint(path);
  const damaged = await wal('verify', path);
  assert.equal(damaged.code, 1);
  assert.match(damaged.stdout, /^damaged: partition 1, index 3: run checksum is/m);
  assert.match(damaged.stdout, /^damaged: the store: the genesis record among the facts/m);
  assert.match(damaged.stdout, /^2 places are damaged$/m);
  const json = jsonOf((await wal('verify', path, '--json')).stdout);
  assert.deepEqual([json.damageCount, json.damages[0]?.index], [2, 3]);
  const inspected = await wal('inspect', path);
  assert.equal(inspected.code, 0);
  assert.match(inspected.stdout, /2 places are damaged: kommander wal verify/);
  const entries = await wal('inspect', path, '--partition', '1', '--from', '2', '--count', '2');
  assert.match(entries.stdout, /^2 .*\ndamaged: partition 1, index 3: .*\n4 .*\n$/);
  assert.deepEqual(await fingerprint(path), before);

  const elsewhere = join(directory, 'letters');
  await mkdir(elsewhere);
  await writeFile(join(elsewhere, 'letter.txt'), 'dear');
  const foreign = await wal('verify', elsewhere);
  assert.deepEqual([foreign.code, foreign.stdout], [2, '']);
  assert.match(foreign.stderr, /holds no log store.*\(WAL_VERSION\)/);
  const missing = await wal('verify', join(directory, 'nothing'));
  assert.equal(missing.code, 2);
  assert.match(missing.stderr, /cannot be read.*\(WAL_FAILED\)/);
  assert.ok(!(await readdir(directory)).includes('nothing'));
  await rename(join(path, 'LOCK'), join(path, 'kept'));
  // A socket is no file that could be opened, whoever runs this.
  const socket = createServer().listen(join(path, 'LOCK'));
  await once(socket, 'listening');
  const unlocked = await wal('verify', path);
  assert.equal(unlocked.code, 2);
  assert.match(unlocked.stderr, /cannot be locked: .*unable to open.*\(WAL_FAILED\)/);
  socket.close();
  await once(socket, 'close');
  await rename(join(path, 'kept'), join(path, 'LOCK'));
  const mark = join(path, 'KOMMANDER');
  await writeFile(mark, (await readFile(mark, 'utf8')).replace('version 1', 'version 2'));
  const newer = await wal('verify', path);
  assert.equal(newer.code, 2);
  assert.match(newer.stderr, /engine rocksdb, version 2: use the program that wrote it/);
});

for (const engine of Object.keys(durableEngines)) {
  test(`a ${engine} store that a node has open is locked for the tools, and one that they read is locked for nodes`, async (t) => {
    const path = join(await newDirectory(t), 'store');
    await nodeStore(path, engine);
    const module = JSON.stringify(
      fileURLToPath(new URL('../support/durable-engines.ts', import.meta.url)),
    );
    const program = `
    import { durableEngines } from ${module};
    const wal = durableEngines.${engine}(process.argv[1]);
    try {
      await wal.open();
      console.log('open');
      setInterval(() => {}, 1_000);
    } catch (error) {
      console.log(error.code);
    }`;
    const begin = async (): Promise<{ said: string; end: () => Promise<void> }> => {
      const child = spawn(process.execPath, ['--input-type=module', '-e', program, path], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
      const said = await new Promise<string>((resolve) => {
        child.stdout.once('data', (bytes) => resolve(String(bytes).trim()));
      });
      return {
        said,
        end: async () => {
          child.kill('SIGKILL');
          await ended;
        },
      };
    };
    const node = await begin();
    try {
      assert.equal(node.said, 'open');
      for (const command of [
        ['inspect', path],
        ['convert', path, `${path}-2`, '--engine', 'rocksdb'],
        ['repair', path, '--from', 'http://127.0.0.1:1'],
      ]) {
        const { code, stderr } = await wal(...command);
        assert.match(stderr, /is open: stop the node that uses it.*\(WAL_LOCKED\)/);
        assert.equal(code, 1);
      }
      assert.equal((await wal('verify', path)).code, 2);
    } finally {
      await node.end();
    }
    // What the killed process left behind is read as it is, and nothing of it changes.
    const left = await fingerprint(path);
    assert.equal((await wal('verify', path)).code, 0);
    assert.deepEqual(await fingerprint(path), left);
    // A tool in this process holds the lock while another process tries to open the store.
    const [lock, other] = [await lockStoreForReading(path), await lockStoreForReading(path)];
    const refused = await begin();
    await refused.end();
    assert.equal(refused.said, 'WAL_LOCKED');
    lock.release();
    other.release();
    const allowed = await begin();
    await allowed.end();
    assert.equal(allowed.said, 'open');
  });
}

test('a partition that vanished, or whose hard state is older than its log, is damage that no repair takes', async (t) => {
  const path = join(await newDirectory(t), 'store');
  await nodeStore(path);
  const key = partitionKey(KeyKind.hardState, 1);
  const older = encodeHardState({ term: 0, votedFor: undefined, commitIndex: 0 });
  const rest = [1, 2, 3, 4, 5, 6].map((index) => runKey(1, index));
  const cases: [readonly (readonly [Uint8Array, Uint8Array?])[], number][] = [
    [[[key, older]], 1],
    [[[key]], 1],
    [[...rest, partitionKey(KeyKind.base, 1)].map((each) => [each]), 0],
  ];
  for (const [rows, term] of cases) {
    await tamper(path, ...rows.map(([each, value]) => ({ key: each, value })));
    const found = await wal('verify', path);
    assert.equal(found.code, 1, found.stderr);
    const what = `damaged: partition 1: there is no hard state of term ${term} or later\n`;
    assert.ok(found.stdout.includes(what), found.stdout);
    const refused = await wal('repair', path, '--from', 'http://127.0.0.1:1');
    assert.match(refused.stderr, /may have forgotten a vote.*\(REPAIR_REFUSED\)/);
  }
  // Made anew, it would vote again where it has voted.
  await assert.rejects(nodeStore(path), (error) => {
    assert.ok(isKommanderError(error, 'WAL_CORRUPT'), String(error));
    assert.equal(error.details.partitionId, 1);
    return true;
  });
});

test('a store whose restore from a backup was interrupted is not whole: no node opens it', async (t) => {
  const path = join(await newDirectory(t), 'store');
  const meta = new Map([['restoring', utf8Bytes('a hash')]]);
  await fillStore(path, (store) => store.write({ writes: [], meta, sync: true }));
  const found = await wal('verify', path);
  assert.equal(found.code, 1, found.stderr);
  assert.match(found.stdout, /^damaged: the store: the restore of a backup .* was interrupted/m);
});

test('verify of a SQLite store names partition, index and table of a damaged row, and says it when it is no database', async (t) => {
  const directory = await newDirectory(t);
  const path = join(directory, 'store');
  await nodeStore(path, 'sqlite');
  await flipBlob(
    path,
    { table: 'runs', column: 'run', where: 'partition_id = 1 AND first_index = 3' },
    -1,
  );
  const damaged = await wal('verify', path);
  assert.equal(damaged.code, 1, damaged.stderr);
  assert.match(
    damaged.stdout,
    /^damaged: partition 1, index 3, file log\.sqlite: row \d+ of table runs: run checksum is/m,
  );
  assert.match(damaged.stdout, /^1 place is damaged$/m);

  await writeFile(join(path, 'log.sqlite'), 'no database');
  const broken = await wal('verify', path);
  assert.equal(broken.code, 1, broken.stderr);
  assert.match(broken.stdout, /^damaged: file log\.sqlite: file is not a database$/m);
  assert.match(broken.stdout, /^whose store it is cannot be read$/m);
  const refused = await wal('convert', path, join(directory, 'new'), '--engine', 'segment');
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /is damaged in 1 places.*\(WAL_CORRUPT\)/);
  assert.doesNotMatch(refused.stderr, /^ +at /m);
});

for (const engine of Object.keys(durableEngines)) {
  test(`verify of a ${engine} store reads the snapshots, to their last byte; neither repair nor convert takes a damaged one`, async (t) => {
    const directory = await newDirectory(t);
    const path = join(directory, 'store');
    const state = new Uint8Array(700_000).fill(7);
    await nodeStore(path, engine, {
      apply: (entries) => entries.map(() => undefined),
      snapshot: () => state,
      async restore(data) {
        await data.bytes();
      },
    });
    const whole = await wal('verify', path);
    assert.deepEqual([whole.code, whole.stderr], [0, '']);
    const [name = ''] = (await readdir(join(path, 'snapshots'))).filter((each) =>
      each.startsWith('p1-'),
    );
    const file = join(path, 'snapshots', name);
    const bytes = await readFile(file);
    const damaged = bytes.subarray();
    damaged[600_000] = (damaged[600_000] as number) ^ 1;
    const cases: [Uint8Array | undefined, RegExp][] = [
      [damaged, /block 2: the checksum is/],
      [bytes.subarray(0, -1), /it has \d+ bytes, expected \d+/],
      [undefined, /it is missing/],
    ];
    for (const [content, what] of cases) {
      if (content === undefined) await rm(file);
      else await writeFile(file, content);
      const before = await fingerprint(path);
      const found = await wal('verify', path);
      assert.equal(found.code, 1, found.stderr);
      const place = `partition 1, index 6, file snapshots/${name}`;
      assert.ok(found.stdout.includes(`\ndamaged: ${place}: the snapshot: `), found.stdout);
      assert.match(found.stdout, what);
      assert.match(found.stdout, /^1 place is damaged$/m);
      const mended = await wal('repair', path, '--from', 'http://127.0.0.1:1');
      assert.equal(mended.code, 1);
      assert.match(
        mended.stderr,
        /the state at the base of partition 1 is damaged.*\(REPAIR_REFUSED\)/,
      );
      const converted = await wal('convert', path, join(directory, 'new'), '--engine', engine);
      assert.match(converted.stderr, /is damaged in 1 places.*\(WAL_CORRUPT\)/);
      assert.deepEqual(await fingerprint(path), before);
    }
  });
}

test('convert makes a new store that a node opens, and leaves the old one alone', async (t) => {
  const directory = await newDirectory(t);
  const [from, to] = [join(directory, 'from'), join(directory, 'new', 'to')];
  await nodeStore(from);
  const before = await fingerprint(from);
  const done = await wal('convert', from, to, '--engine', 'rocksdb');
  assert.equal(done.code, 0, done.stderr);
  assert.match(done.stderr, /2 partitions, 8 entries, engine rocksdb, compared with/);
  assert.deepEqual(await fingerprint(from), before);
  assert.deepEqual(await readdir(join(directory, 'new')), ['to']);
  const [old, made] = [rocksdbWal({ path: from }), rocksdbWal({ path: to })];
  assert.deepEqual(await made.open(), await old.open());
  await Promise.all([old.close(), made.close()]);

  const inside = await wal('convert', from, join(from, 'to'), '--engine', 'rocksdb');
  assert.equal(inside.code, 1);
  assert.match(inside.stderr, /lies in \S+, which is only read.*\(INVALID_ARGUMENT\)/);
  const slash = await wal('convert', from, `${join(directory, 'slash')}/`, '--engine', 'rocksdb');
  assert.equal(slash.code, 0, slash.stderr);
  assert.deepEqual((await readdir(directory)).sort(), ['from', 'new', 'slash']);
  await rm(join(directory, 'slash'), { recursive: true });
  const again = await wal('convert', from, to, '--engine', 'rocksdb');
  assert.equal(again.code, 1);
  assert.match(again.stderr, /is not empty: choose a new directory \(INVALID_ARGUMENT\)/);
  await damageFile(from, '.sst', '_genesis');
  const damaged = await wal('convert', from, join(directory, 'other'), '--engine', 'rocksdb');
  assert.equal(damaged.code, 1);
  assert.match(damaged.stderr, /is damaged in \d+ places.*\(WAL_CORRUPT\)/);
  assert.deepEqual((await readdir(directory)).sort(), ['from', 'new']);
});

test('a wrong command line exits with 2 and says what would be right', async () => {
  const cases: [string[], RegExp][] = [
    [['inspect'], /missing required argument 'DIR'[\s\S]*see: kommander wal inspect --help/],
    [['inspect', 'x', '--from', '3'], /--from and --count need --partition/],
    [['inspect', 'x', '--partition', '-1'], /--partition: "-1" is not valid/],
    [['inspect', 'x', '--partition', '1', '--count', '0'], /--count: "0" is not valid/],
    [['convert', 'x', 'y'], /required option '--engine <NAME>'/],
    [
      ['convert', 'x', 'y', '--engine', 'paper'],
      /"paper" is not valid: expected one of rocksdb, segment, sqlite/,
    ],
    [['repair', 'x'], /required option '--from <URLS>'/],
    [['repair', 'x', '--from', 'b:1'], /"b:1" is no URL/],
    [['polish'], /unknown command 'polish'/],
  ];
  for (const [parameters, message] of cases) {
    const { code, stderr } = await wal(...parameters);
    assert.match(stderr, message);
    assert.equal(code, 2, stderr);
  }
});

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  test(`a tool that ${signal} ends leaves no copy of a store behind`, async (t) => {
    const directory = await newDirectory(t);
    const [path, temporary] = [join(directory, 'store'), join(directory, 'tmp')];
    await mkdir(temporary);
    await nodeStore(path);
    const engines = new URL('../../src/server/wal-engines.ts', import.meta.url);
    const program = `
      import { openClosedStore } from ${JSON.stringify(fileURLToPath(engines))};
      await openClosedStore(process.argv[1]);
      console.log('open');
      setInterval(() => {}, 1_000);`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', program, path], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, TMPDIR: temporary },
    });
    await once(child.stdout, 'data');
    assert.equal((await readdir(temporary)).length, 1);
    child.kill(signal);
    const [code, ended] = (await once(child, 'exit')) as [number | null, string | null];
    assert.deepEqual([code, ended], [null, signal]);
    assert.deepEqual(await readdir(temporary), []);
  });
}

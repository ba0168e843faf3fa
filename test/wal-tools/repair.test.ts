// `kommander wal repair` with a real cluster: a node whose stored log is damaged does not start, is mended from its peers,
// starts, and has the same data; and what cannot be mended safely changes nothing.

import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { isKommanderError } from '../../src/base/errors.ts';
import { decodeRun, encodeRuns, readRunHeader } from '../../src/ports/run.ts';
import type { Entry } from '../../src/raft/types.ts';
import { openHttpApi } from '../../src/server/http-api.ts';
import { openServer, type Server } from '../../src/server/serve.ts';
import { openClosedStore } from '../../src/server/wal-engines.ts';
import { mendedFinds } from '../../src/server/wal-mend.ts';
import { fetchEntries, type LogPeer, parsePeerUrls } from '../../src/server/wal-peers.ts';
import { repairStore } from '../../src/server/wal-repair.ts';
import { factsOf } from '../../src/testing/wal-model.ts';
import { runKey } from '../../src/wal/rocksdb-keys.ts';
import { namePattern } from '../../src/wal/segment-open.ts';
import { StreamKind, tryReadRecord } from '../../src/wal/segment-record.ts';
import type { StoreFind } from '../../src/wal/store-reader.ts';
import {
  type StoreSurvey,
  type SurveyedPartition,
  surveyStore,
} from '../../src/wal/store-survey.ts';
import { fakeService } from '../server-fake-node.ts';
import { eventually, isReady, serveOptions, statusOf } from '../server-support.ts';
import { freePorts } from '../support/ports.ts';
import { flipBlob, tamper as tamperRows } from '../support/sqlite-files.ts';
import {
  batchOf,
  entriesFrom,
  fillStore,
  fingerprint,
  flipped,
  tamper,
} from '../support/stored-directory.ts';

const nodeIds = ['a', 'b', 'c'] as const;
type NodeName = (typeof nodeIds)[number];

interface Cluster {
  readonly path: (nodeId: NodeName) => string;
  readonly url: (nodeId: NodeName) => string;
  open(nodeId: NodeName): Promise<void>;
  close(nodeId: NodeName): Promise<void>;
  /** Writes keys `prefix-0 …` and waits until all running nodes have applied them. */
  write(prefix: string, count: number): Promise<void>;
  makeLeader(nodeId: NodeName, partitionId: number): Promise<void>;
  /** All keys and values that a node has applied. */
  contents(nodeId: NodeName): Promise<ReadonlyMap<string, string>>;
}

async function openCluster(
  t: TestContext,
  partitions = 2,
  wal: 'rocksdb' | 'segment' | 'sqlite' = 'rocksdb',
): Promise<Cluster> {
  const directory = await mkdtemp(join(tmpdir(), 'kommander-repair-'));
  const ports = await freePorts(nodeIds.length);
  const members = Object.fromEntries(nodeIds.map((id, at) => [id, `127.0.0.1:${ports[at]}`]));
  const servers = new Map<NodeName, Server>();
  t.after(async () => {
    await Promise.all([...servers.values()].map((server) => server.close()));
    await rm(directory, { recursive: true, force: true });
  });
  const path = (nodeId: NodeName): string => join(directory, nodeId);
  const url = (nodeId: NodeName): string => `http://${servers.get(nodeId)?.http}`;
  const running = (): NodeName[] => [...servers.keys()];

  async function positions(nodeId: NodeName): Promise<string> {
    const status = await statusOf(url(nodeId));
    return JSON.stringify(
      status?.partitions.map(({ lastApplied, lastIndex }) => [lastApplied, lastIndex]),
    );
  }

  async function settled(): Promise<void> {
    await eventually('all nodes have applied the same', async () => {
      const all = await Promise.all(running().map(positions));
      return new Set(all).size === 1;
    });
  }

  const cluster: Cluster = {
    path,
    url,
    async open(nodeId) {
      const options = serveOptions(nodeId, members, {
        wal,
        data: path(nodeId),
        partitions,
      });
      servers.set(nodeId, await openServer(options, () => {}));
    },
    async close(nodeId) {
      await servers.get(nodeId)?.close();
      servers.delete(nodeId);
    },
    async write(prefix, count) {
      for (let at = 0; at < count; at++) {
        const [node = 'a'] = running();
        const key = `${prefix}-${at}`;
        const request = { method: 'PUT', body: `v ${key}` };
        // On a busy machine a leader may change meanwhile.
        await eventually(`${key} is written`, async () => {
          const answer = await fetch(`${url(node)}/v1/kv/${key}`, request);
          const text = await answer.text();
          assert.ok(answer.ok || /"retryable":true/.test(text), text);
          return answer.ok;
        });
      }
      await settled();
    },
    async makeLeader(nodeId, partitionId) {
      await eventually(`${nodeId} leads partition ${partitionId}`, async () => {
        const status = await statusOf(url(nodeId));
        const partition = status?.partitions.find((each) => each.partition === partitionId);
        if (partition?.leader === nodeId) return true;
        const body = JSON.stringify({ to: nodeId });
        await fetch(`${url(nodeId)}/v1/partitions/${partitionId}/transfer`, {
          method: 'POST',
          body,
        });
        return false;
      });
      await settled();
    },
    async contents(nodeId) {
      await settled();
      const listed = await fetch(`${url(nodeId)}/v1/kv?limit=10000`);
      const { keys } = (await listed.json()) as { keys: { key: string }[] };
      const values = new Map<string, string>();
      for (const { key } of keys) {
        const value = await fetch(`${url(nodeId)}/v1/kv/${key}?consistency=local`);
        values.set(key, await value.text());
      }
      return values;
    },
  };
  await Promise.all(nodeIds.map((nodeId) => cluster.open(nodeId)));
  for (const nodeId of nodeIds) await eventually('it is ready', () => isReady(url(nodeId)));
  return cluster;
}

async function survey(path: string): Promise<StoreSurvey> {
  const store = await openClosedStore(path);
  try {
    return await surveyStore(store.finds(), { digest: true });
  } finally {
    await store.close();
  }
}

async function partitionAt(path: string, partitionId: number): Promise<SurveyedPartition> {
  const { partitions } = await survey(path);
  const found = partitions.find((each) => each.partitionId === partitionId);
  assert.ok(found !== undefined);
  return found;
}

/** Where the runs of a partition begin. */
async function runsOf(path: string, partitionId: number): Promise<number[]> {
  const store = await openClosedStore(path);
  const indexes: number[] = [];
  for await (const find of store.finds(partitionId))
    if (find.kind === 'run') indexes.push(find.entries[0]?.index ?? 0);
  await store.close();
  return indexes;
}

async function damageRun(path: string, partitionId: number, index: number, at = -1): Promise<void> {
  const key = runKey(partitionId, index);
  await tamper(path, { key, value: await flipped(path, key, at) });
}

async function refusal(path: string, urls: readonly string[], code: string): Promise<string> {
  const before = await fingerprint(path);
  let message = '';
  await assert.rejects(
    repairStore(path, urls, () => {}),
    (error) => {
      assert.ok(isKommanderError(error), String(error));
      assert.equal(error.code, code, error.message);
      message = error.message;
      return true;
    },
  );
  assert.deepEqual(await fingerprint(path), before, 'a refusal changes nothing');
  assert.ok(!(await readdir(join(path, '..'))).some((name) => /repaired|damaged/.test(name)));
  return message;
}

/** Contents of the files, without their times and where they are. */
function hashes(lines: readonly string[]): string[] {
  return lines.slice(1).map((line) => {
    const [file = '', hash] = line.split(' ');
    return `${file.slice(file.lastIndexOf('/') + 1)} ${hash}`;
  });
}

const damagedEngines = {
  rocksdb: {
    damage: damageRun,
    damageHead: (path: string, partitionId: number, index: number): Promise<void> =>
      damageRun(path, partitionId, index, 24),
    remove: (path: string, partitionId: number, index: number): Promise<void> =>
      tamper(path, { key: runKey(partitionId, index), value: undefined }),
  },
  // Where a record of a segment is not whole in its frame, or is not there, nobody knows what it was: only payloads are mended.
  segment: { damage: flipPayload, damageHead: flipPayload, remove: flipPayload },
  sqlite: {
    damage: (path: string, partitionId: number, index: number): Promise<void> =>
      flipBlob(path, { table: 'runs', column: 'run', where: rowAt(partitionId, index) }, -1),
    damageHead: (path: string, partitionId: number, index: number): Promise<void> =>
      flipBlob(path, { table: 'runs', column: 'run', where: rowAt(partitionId, index) }, 24),
    remove: (path: string, partitionId: number, index: number): Promise<void> =>
      tamperRows(path, `DELETE FROM runs WHERE ${rowAt(partitionId, index)}`),
  },
} as const;

/** Flips a bit in the last byte of the youngest run of a closed segment store that begins at `index`. */
async function flipPayload(path: string, partitionId: number, index: number): Promise<void> {
  const names = (await readdir(path)).filter((name) => namePattern.test(name)).sort();
  for (const name of names.reverse()) {
    const file = join(path, name);
    const bytes = await readFile(file);
    const number = Number.parseInt(name, 10);
    let end = 0;
    for (let offset = 0; ; ) {
      const record = tryReadRecord(bytes, offset, number);
      if (record === undefined) break;
      const { kind, bodyOffset, bodyBytes } = record;
      offset = record.endOffset;
      if (kind !== StreamKind.run || record.partitionId !== partitionId) continue;
      const { firstIndex } = readRunHeader(bytes.subarray(bodyOffset));
      if (firstIndex === index) end = bodyOffset + bodyBytes;
    }
    if (end === 0) continue;
    bytes[end - 1] = (bytes[end - 1] as number) ^ 0x10;
    await writeFile(file, bytes);
    return;
  }
  throw new Error(`no segment in ${path} has a run of partition ${partitionId} from ${index} on`);
}

function rowAt(partitionId: number, index: number): string {
  return `partition_id = ${partitionId} AND first_index = ${index}`;
}

for (const engine of ['rocksdb', 'segment', 'sqlite'] as const) {
  test(`a node with damaged entries in its ${engine} store does not start; repaired from its peers it starts and has the same data`, async (t) => {
    const { damage, damageHead, remove } = damagedEngines[engine];
    const cluster = await openCluster(t, 2, engine);
    await cluster.write('one', 60);
    await cluster.close('c');
    await cluster.write('two', 20);
    const path = cluster.path('c');
    const clean = await survey(path);
    const [, second = 0] = (await runsOf(path, 1)).slice(3);
    const [first = 0] = await runsOf(path, 2);
    const middle = (await runsOf(path, 2)).at(7) ?? 0;
    await damage(path, 1, second);
    await damageHead(path, 2, first);
    await remove(path, 2, middle);
    await assert.rejects(cluster.open('c'), (error) => isKommanderError(error, 'WAL_CORRUPT'));
    const { damages } = await survey(path);
    assert.deepEqual(
      damages.map(({ partitionId, index }) => [partitionId, index]),
      [
        [1, second],
        [2, first],
        [2, middle],
      ],
    );

    const before = await fingerprint(path);
    const said: string[] = [];
    await repairStore(path, [cluster.url('a'), cluster.url('b')], (text) => said.push(text));
    assert.match(
      said.join(''),
      new RegExp(`partition 1: entries ${second} … \\d+ replaced \\(from [ab]\\)`),
    );
    assert.match(said.join(''), /the damaged store is kept as \S+c\.damaged-1/);
    assert.deepEqual(hashes(await fingerprint(`${path}.damaged-1`)), hashes(before));
    const repaired = await survey(path);
    assert.deepEqual(repaired.damages, []);
    // What was committed is the same everywhere: the store is what it was before the damage.
    assert.deepEqual(
      repaired.partitions.map(({ digest, hardState }) => ({ digest, hardState })),
      clean.partitions.map(({ digest, hardState }) => ({ digest, hardState })),
    );

    await cluster.open('c');
    await eventually('c is ready', () => isReady(cluster.url('c')));
    const expected = await cluster.contents('a');
    assert.equal(expected.size, 80);
    assert.deepEqual(await cluster.contents('c'), expected);
    // It takes part again: with a away, it is needed for every commit.
    await cluster.close('a');
    await cluster.write('three', 5);
  });
}

test('what was damaged beyond the own commit index waits until the cluster has committed as much', async (t) => {
  const cluster = await openCluster(t, 1);
  await cluster.write('one', 10);
  await cluster.makeLeader('a', 1);
  await cluster.close('c');
  const path = cluster.path('c');
  const urls = [cluster.url('a'), cluster.url('b')];
  const { lastIndex, hardState, termRuns } = await partitionAt(path, 1);
  const term = termRuns.at(-1)?.term ?? 0;
  assert.deepEqual([hardState?.commitIndex, hardState?.term], [lastIndex, term]);
  // It acknowledged ten entries more, of which it does not know whether they were committed.
  await fillStore(path, async (wal) => {
    await wal.write(batchOf({ entries: entriesFrom(lastIndex + 1, term, 5) }, true));
    await wal.write(batchOf({ entries: entriesFrom(lastIndex + 6, term, 5) }, true));
  });
  await damageRun(path, 1, lastIndex + 6);
  await cluster.write('two', 9);
  const message = await refusal(path, urls, 'REPAIR_REFUSED');
  assert.match(message, new RegExp(`ended with entry ${lastIndex + 10} of term ${term}`));
  assert.match(message, new RegExp(`committed up to ${lastIndex + 9} of term ${term}`));

  await cluster.write('three', 1);
  await repairStore(path, urls, () => {});
  const repaired = await partitionAt(path, 1);
  assert.equal(repaired.lastIndex, lastIndex + 10);
  assert.deepEqual(repaired.hardState, { ...hardState, commitIndex: lastIndex + 10 });
  await cluster.open('c');
  assert.deepEqual(await cluster.contents('c'), await cluster.contents('a'));
});

test('a log whose end nobody knows gives way only to a later term, in which the node has not voted', async (t) => {
  const cluster = await openCluster(t, 1);
  await cluster.write('one', 10);
  await cluster.makeLeader('a', 1);
  await cluster.close('c');
  const path = cluster.path('c');
  const urls = [cluster.url('a'), cluster.url('b')];
  const { lastIndex, hardState } = await partitionAt(path, 1);
  const term = hardState?.term ?? 0;
  const votedFor = 3;
  await fillStore(path, async (wal) => {
    const voted = { term, votedFor, commitIndex: lastIndex };
    await wal.write(batchOf({ hardState: voted, entries: entriesFrom(lastIndex + 1, term, 5) }));
  });
  await damageRun(path, 1, lastIndex + 1, 24);
  await cluster.write('two', 50);
  const message = await refusal(path, urls, 'REPAIR_REFUSED');
  assert.match(message, /kommander transfer 1 NODE begins a new term/);

  await cluster.makeLeader('b', 1);
  await cluster.write('three', 1);
  await repairStore(path, urls, () => {});
  const repaired = await partitionAt(path, 1);
  assert.ok((repaired.hardState?.term ?? 0) > term);
  assert.equal(repaired.hardState?.votedFor, undefined);
  assert.equal(repaired.hardState?.commitIndex, repaired.lastIndex);
  await cluster.open('c');
  assert.deepEqual(await cluster.contents('c'), await cluster.contents('a'));
});

test('strangers, the node itself and peers without the entries are refused; an unfinished swap is finished', async (t) => {
  const cluster = await openCluster(t, 1);
  await cluster.write('one', 10);
  const foreign = await openHttpApi({ listen: '127.0.0.1:0' });
  t.after(() => foreign.close());
  foreign.attach(fakeService());
  const itself = cluster.url('c');
  const [first = 0] = await runsOf(cluster.path('b'), 1);
  await cluster.close('b');
  await cluster.close('c');
  const [path, peer] = [cluster.path('c'), cluster.url('a')];
  const said: string[] = [];
  const untouched = await fingerprint(path);
  await repairStore(path, [peer], (text) => said.push(text));
  assert.match(said.join(''), /there is nothing to repair/);
  assert.deepEqual(await fingerprint(path), untouched);

  await damageRun(path, 1, first);
  assert.match(
    await refusal(path, [`http://${foreign.endpoint}`], 'WRONG_CLUSTER'),
    /belongs to cluster fake-cluster/,
  );
  await refusal(path, [itself], 'TRANSPORT_FAILED');
  const page = await serving(t, async () => ({ body: Buffer.from('<html>') }));
  assert.match(await refusal(path, [page], 'TRANSPORT_FAILED'), /its status is not that of a node/);
  const cut = await serving(t, async () => ({ body: Buffer.from('{'), isCut: true }));
  assert.match(await refusal(path, [cut], 'TRANSPORT_FAILED'), /cannot be asked: .*closed/);
  assert.match(
    await refusal(path, [await standIn(t, peer, '"node":"a"', '"node":"c"')], 'WRONG_CLUSTER'),
    /is the damaged node itself/,
  );
  // The peer's log ends earlier, or was compacted.
  const behind = await standIn(t, peer, /"lastApplied":\d+/g, '"lastApplied":0');
  assert.match(await refusal(path, [behind], 'REPAIR_REFUSED'), /a has applied up to 0 only/);
  const compacted = await standIn(t, peer, /"compactedIndex":\d+/g, '"compactedIndex":5000');
  assert.match(
    await refusal(path, [compacted], 'REPAIR_REFUSED'),
    /a has compacted its log up to 5000.*Readmit the node/,
  );

  await repairStore(path, [peer], () => {});
  // As if the power had gone between the last two steps.
  await rename(path, `${path}.repaired`);
  await repairStore(path, [peer], (text) => said.push(text));
  assert.match(said.at(-1) ?? '', /of an earlier run is in its place/);
  assert.deepEqual((await survey(path)).damages, []);
  await cluster.open('c');
  await cluster.open('b');
  assert.deepEqual(await cluster.contents('c'), await cluster.contents('a'));
});

/** A server that passes on what `url` says, changed. */
async function standIn(
  t: TestContext,
  url: string,
  find: string | RegExp,
  replace: string,
): Promise<string> {
  return serving(t, async (path) => {
    const answer = await fetch(url + path);
    return { body: Buffer.from((await answer.text()).replace(find, replace)) };
  });
}

interface Served {
  readonly body: Uint8Array;
  readonly cluster?: string;
  /** The connection ends before the last byte. */
  readonly isCut?: boolean;
}

async function serving(t: TestContext, answer: (path: string) => Promise<Served>): Promise<string> {
  const server = createServer((request, response) => {
    void answer(request.url ?? '').then(({ body, cluster = 'x', isCut = false }) => {
      const length = body.byteLength + (isCut ? 1 : 0);
      response.writeHead(200, { 'kommander-cluster': cluster, 'content-length': length });
      if (isCut) response.write(body, () => response.destroy());
      else response.end(body);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function runBytes(entries: readonly Entry[]): Uint8Array {
  return Buffer.concat(encodeRuns(entries));
}

async function fetched(t: TestContext, body: Uint8Array, cluster = 'x'): Promise<string[]> {
  const url = await serving(t, async () => ({ body, cluster }));
  const peer: LogPeer = { url, nodeId: 'p', clusterId: 'x', partitions: new Map() };
  const entries: Entry[] = [];
  for await (const piece of fetchEntries(peer, 1, { from: 5, last: 8 })) entries.push(...piece);
  return entries.map(factsOf);
}

test('entries of a peer are believed only when they are whole, in order, and of its cluster', async (t) => {
  const entries = [...entriesFrom(5, 2, 2), ...entriesFrom(7, 3, 2)];
  assert.deepEqual(await fetched(t, runBytes(entries)), entries.map(factsOf));
  const damaged = runBytes(entries);
  damaged[60] = (damaged[60] as number) ^ 1;
  const bad: [Uint8Array, string?][] = [
    [damaged],
    [runBytes(entries).subarray(0, 90)],
    [runBytes(entriesFrom(6, 2, 3))],
    [runBytes(entriesFrom(5, 2, 5))],
    [runBytes([...entriesFrom(5, 2, 1), ...entriesFrom(7, 2, 2)])],
    [new Uint8Array(0)],
    [runBytes(entries), 'another cluster'],
  ];
  for (const [body, cluster] of bad)
    await assert.rejects(fetched(t, body, cluster), (error) =>
      isKommanderError(error, 'TRANSPORT_FAILED'),
    );
});

/** Mends entries 3 and 4 of a log 1 … 6 of term 5 with what a peer says of 2 … 4. */
async function mended(t: TestContext, given: readonly Entry[]): Promise<string[]> {
  const url = await serving(t, async () => ({ body: runBytes(given) }));
  const partitions = new Map([[1, { compactedIndex: 0, lastApplied: 9 }]]);
  const peer: LogPeer = { url, nodeId: 'p', clusterId: 'x', partitions };
  const hardState = { term: 5, votedFor: undefined, commitIndex: 6 };
  const need = {
    ...{ partitionId: 1, hardState, commitIndex: 6, end: undefined },
    ranges: [{ from: 3, last: 4 }],
  };
  async function* finds(): AsyncGenerator<StoreFind> {
    for (const index of [1, 5]) {
      const entries = entriesFrom(index, 5, 2);
      yield { kind: 'run', partitionId: 1, entries, byteLength: 0 };
    }
  }
  const found: Entry[] = [];
  for await (const find of mendedFinds(finds(), [{ need, peer, committed: undefined }]))
    if (find.kind === 'run') found.push(...find.entries);
  return found.map(factsOf);
}

test('what is fetched must join what is there: the entry before it, and terms that never fall', async (t) => {
  const right = entriesFrom(2, 5, 3);
  assert.deepEqual(await mended(t, right), entriesFrom(1, 5, 6).map(factsOf));
  const [, ...rest] = right;
  const wrong = [
    [...entriesFrom(2, 4, 1), ...rest],
    [...decodeRun(Buffer.concat(encodeRuns(entriesFrom(2, 5, 1)))).map(otherPayload), ...rest],
    [...entriesFrom(2, 5, 2), ...entriesFrom(4, 6, 1)],
  ];
  for (const given of wrong)
    await assert.rejects(mended(t, given), (error) => isKommanderError(error, 'REPAIR_REFUSED'));
});

function otherPayload(entry: Entry): Entry {
  return { ...entry, bytes: Uint8Array.of(1, 2, 3), start: 0, end: 3 };
}

test('peers are given as URLs', () => {
  assert.deepEqual(parsePeerUrls('http://a:1,https://b:2/'), ['http://a:1', 'https://b:2']);
  for (const text of ['', 'a:1', 'http://a:1,', 'ftp://a'])
    assert.throws(
      () => parsePeerUrls(text),
      (error) => isKommanderError(error, 'INVALID_OPTION'),
    );
});

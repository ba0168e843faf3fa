// Backups of nodes that run: what is in one, what it keeps meanwhile, what ends it, and what is taken for a whole one.

import assert from 'node:assert/strict';
import { readdir, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { isKommanderError } from '../../src/base/errors.ts';
import { saveBackup } from '../../src/host/backup-directory.ts';
import { FrameKind, frameOf } from '../../src/host/backup-format.ts';
import type { StateMachine } from '../../src/ports/state-machine.ts';
import {
  backedUp,
  collected,
  failureOf,
  folder,
  opened,
  piecesOf,
  restored,
  streamOf,
  textsOf,
  write,
} from '../support/backups.ts';
import { codeOf, type NodeCluster, text } from '../support/node-cluster.ts';

test('a node that cannot hear from a leader gives no backup: it may lack what was acknowledged', async () => {
  await using cluster = await opened();
  await cluster.makeLeader('a');
  await cluster.converge();
  cluster.isolate(['c']);
  await write(cluster, 'x');
  const failure = await failureOf(cluster, 'c');
  assert.ok(['READ_TIMEOUT', 'NO_LEADER'].includes(failure), failure);
});

test('what was acknowledged elsewhere is in the backup of a follower that was behind', async (t) => {
  await using cluster = await opened();
  await cluster.makeLeader('a');
  cluster.isolate(['c']);
  await write(cluster, 'x');
  for (const other of ['a', 'b']) {
    cluster.network.setLink(other, 'c', 'up');
    cluster.network.setLink('c', other, 'up');
  }
  const { directory } = await backedUp(t, cluster, 'c');
  await using fresh = await restored(directory, { nodes: 1 });
  assert.deepEqual(textsOf(fresh, 'a'), ['x']);
});

test('one backup at a time; whoever stops taking pieces ends it', async () => {
  await using cluster = await opened({ nodes: 1 });
  await write(cluster, 'x');
  const first = cluster.node('a').backup()[Symbol.asyncIterator]();
  await cluster.drive(first.next());
  assert.equal(await failureOf(cluster, 'a'), 'QUEUE_FULL');
  await cluster.drive(Promise.resolve(first.return?.()));
  assert.ok((await piecesOf(cluster, 'a')).length > 0);
});

test('an idle partition gives the snapshot that it has; one that was written to takes another', async () => {
  let snapshots = 0;
  const machine = (): StateMachine => ({
    apply: () => undefined,
    snapshot: () => {
      snapshots += 1;
      return text('state');
    },
    restore: () => {},
  });
  await using cluster = await opened({ nodes: 1, machine });
  await write(cluster, 'x');
  await piecesOf(cluster, 'a');
  await piecesOf(cluster, 'a');
  assert.equal(snapshots, 1);
  await write(cluster, 'y');
  await piecesOf(cluster, 'a');
  assert.equal(snapshots, 2);
});

async function snapshotFiles(cluster: NodeCluster): Promise<readonly string[]> {
  const names = (await cluster.seat('a').disk.files.list()).map(({ name }) => name);
  return names.filter((name) => name.startsWith('p1-'));
}

test('a backup outlives snapshots that are taken meanwhile', async (t) => {
  await using cluster = await opened({ nodes: 1, settings: { trailingEntries: 0 } });
  await write(cluster, 'x');
  const backup = cluster.node('a').backup()[Symbol.asyncIterator]();
  const pieces: Uint8Array[] = [];
  const isAt = (file: string): boolean =>
    pieces.some((piece) => Buffer.from(piece).toString() === file);
  const take = async (): Promise<boolean> => {
    const next = await cluster.drive(backup.next());
    if (next.done !== true) pieces.push(next.value);
    return next.done !== true;
  };
  while (!isAt('partition-1.state')) assert.ok(await take());
  await write(cluster, 'y');
  await cluster.drive(cluster.node('a').checkpoint(1));
  await cluster.time.settle();
  assert.equal((await snapshotFiles(cluster)).length, 2, 'the one that is copied stays');
  while (await take());
  const directory = join(await folder(t), 'backup');
  await saveBackup(streamOf(pieces), directory);
  await using fresh = await restored(directory, { nodes: 1 });
  assert.deepEqual(textsOf(fresh, 'a'), ['x']);
  assert.equal((await snapshotFiles(cluster)).length, 1, 'nobody needs the other one any more');
});

test('a log that a snapshot of the leader has replaced is copied once it begins behind that', async () => {
  await using cluster = await opened({
    machine: undefined,
    settings: { trailingEntries: 0, logOnlyCompaction: 'checkpoint' },
  });
  await cluster.makeLeader('a');
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('old')));
  await cluster.converge();
  const backup = cluster.node('c').backup()[Symbol.asyncIterator]();
  await cluster.drive(backup.next());
  cluster.isolate(['c']);
  await cluster.drive(cluster.node('a').replicate(1, 'put', text('new')));
  await cluster.drive(cluster.node('a').checkpoint(1));
  await cluster.run(20);
  const { disk } = cluster.seat('c');
  const appliedIndex = (): number => cluster.node('c').status().partitions[1]?.lastApplied ?? 0;
  const before = appliedIndex();
  cluster.network.heal();
  disk.hold();
  await cluster.until(
    () => (cluster.node('c').status().partitions[1]?.compactedIndex ?? 0) > before,
    'c has taken the snapshot',
  );
  const rest = (async (): Promise<void> => {
    while ((await backup.next()).done !== true);
  })();
  rest.catch(() => {});
  await cluster.run(20);
  assert.equal(appliedIndex(), before);
  disk.release();
  await cluster.drive(rest);
});

test('the log of a partition without a machine is not compacted while it is copied', async (t) => {
  await using cluster = await opened({
    nodes: 1,
    machine: undefined,
    settings: { trailingEntries: 0 },
  });
  for (let i = 0; i < 5; i++) await write(cluster, `${i}`);
  const node = cluster.node('a');
  const compactedIndex = (): number | undefined => node.status().partitions[1]?.compactedIndex;
  const backup = node.backup()[Symbol.asyncIterator]();
  const pieces: Uint8Array[] = [];
  let isCompacting = false;
  for (;;) {
    const next = await cluster.drive(backup.next());
    if (next.done === true) break;
    pieces.push(next.value);
    if (Buffer.from(next.value).toString() !== 'partition-1.log') continue;
    isCompacting = true;
    await cluster.drive(node.checkpoint(1));
    await cluster.time.settle();
    assert.equal(compactedIndex(), 0);
  }
  assert.ok(isCompacting);
  const directory = join(await folder(t), 'backup');
  await saveBackup(streamOf(pieces), directory);
  await cluster.drive(node.checkpoint(1));
  await cluster.time.settle();
  assert.ok((compactedIndex() ?? 0) > 0, 'the hold was released');
  // And a log that begins later is copied from there on.
  await write(cluster, 'last');
  const later = await backedUp(t, cluster, 'a');
  await using fresh = await restored(later.directory, { nodes: 3, machine: undefined });
  await write(fresh, 'new');
  for (const nodeId of fresh.nodeIds) {
    assert.ok((fresh.node(nodeId).status().partitions[1]?.compactedIndex ?? 0) > 0, nodeId);
  }
});

test('a disk without room for the snapshot, an abort, a node that closes: the backup says so', async () => {
  await using cluster = await opened({ nodes: 1 });
  await write(cluster, 'x');
  cluster.seat('a').disk.snapshotState = 'full';
  assert.equal(await failureOf(cluster, 'a'), 'DISK_FULL');
  cluster.seat('a').disk.snapshotState = 'good';
  const abort = new AbortController();
  const aborted = cluster.node('a').backup({ signal: abort.signal })[Symbol.asyncIterator]();
  await cluster.drive(aborted.next());
  abort.abort();
  const rest = async (): Promise<void> => {
    while ((await aborted.next()).done !== true);
  };
  assert.equal(codeOf(await cluster.driveFailure(rest())), 'ABORTED');
  const closing = cluster.node('a').backup()[Symbol.asyncIterator]();
  await cluster.drive(closing.next());
  const { node } = cluster.seat('a');
  await cluster.close('a');
  const closed = async (): Promise<void> => {
    while ((await closing.next()).done !== true);
  };
  assert.equal(codeOf(await cluster.driveFailure(closed())), 'NODE_CLOSED');
  assert.ok(node !== undefined);
  const late = collected(node.backup());
  assert.equal(codeOf(await cluster.driveFailure(late)), 'NODE_CLOSED');
});

test('a state machine that cannot give its state stops its replica and ends the backup', async () => {
  const machine = (): StateMachine => ({
    apply: () => undefined,
    snapshot() {
      throw new Error('by the test');
    },
    restore: () => {},
  });
  await using cluster = await opened({ nodes: 1, machine });
  await write(cluster, 'x');
  for (let i = 0; i < 2; i++) {
    const error = await cluster.driveFailure(collected(cluster.node('a').backup()));
    assert.ok(isKommanderError(error, 'APPLY_FAILED'));
    assert.equal(error.mayHaveCommitted, false, 'a backup writes nothing');
  }
});

test('a stream that is cut off anywhere, changed or lengthened is no backup and leaves nothing', async (t) => {
  await using cluster = await opened({ nodes: 1 });
  await write(cluster, 'some text that can be damaged');
  const bytes = Buffer.concat(await piecesOf(cluster, 'a'));
  const path = await folder(t);
  const refused = async (stream: readonly Uint8Array[], what: string): Promise<void> => {
    const error = await saveBackup(streamOf(stream), join(path, 'backup')).catch(
      (reason: unknown) => reason,
    );
    assert.equal(codeOf(error), 'BACKUP_CORRUPT', what);
    assert.deepEqual(await readdir(path), [], what);
  };
  for (let end = 0; end < bytes.byteLength; end += 37) {
    await refused([bytes.subarray(0, end)], `cut at ${end}`);
  }
  const at = bytes.indexOf('that can be');
  const changed = Buffer.from(bytes);
  changed[at] = 0x58;
  await refused([changed], 'a changed byte');
  await refused([...frameOf(FrameKind.bytes, text('x')), bytes], 'bytes of no file');
  await refused([...frameOf(FrameKind.file, text('../x')), bytes], 'a file elsewhere');
  const extra = [...frameOf(FrameKind.file, text('partition-7.log')), bytes];
  await refused(extra, 'a file that the manifest does not name');
  const twice = [...frameOf(FrameKind.file, text('partition-0.state')), bytes];
  await refused(twice, 'a file that comes twice');
  await refused([Uint8Array.of(9, 0, 0, 0, 0)], 'a frame of an unknown kind');
  await refused([Uint8Array.of(FrameKind.file, 65, 0, 0, 0)], 'a name that is too long');
  await refused([Uint8Array.of(FrameKind.bytes, 1, 0, 0, 4)], 'a frame that is too long');
  await refused([...frameOf(FrameKind.manifest, text('{}'))], 'a manifest that is none');
  const mute = [...frameOf(FrameKind.failure, text('no JSON'))];
  await refused(mute, 'a failure that says nothing');
});

test('a stream comes in pieces of any length, and what its node tells becomes an error', async (t) => {
  await using cluster = await opened({ nodes: 1 });
  await write(cluster, 'x');
  const bytes = Buffer.concat(await piecesOf(cluster, 'a'));
  const directory = join(await folder(t), 'backup');
  await saveBackup(streamOf([...bytes].map((byte) => Uint8Array.of(byte))), directory);
  assert.deepEqual((await readdir(directory)).sort(), [
    'manifest.json',
    'partition-0.state',
    'partition-1.state',
  ]);
  const told = JSON.stringify({ code: 'DISK_FULL', message: 'no room', details: {} });
  const failed = saveBackup(
    streamOf([...frameOf(FrameKind.failure, text(told))]),
    `${directory}-2`,
  );
  await assert.rejects(failed, { code: 'DISK_FULL', message: 'no room' });
});

test('until it is whole, a backup has the name of a draft', async (t) => {
  await using cluster = await opened({ nodes: 1 });
  const pieces = await piecesOf(cluster, 'a');
  const path = await folder(t);
  const seen = new Set<string>();
  async function* watched(): AsyncGenerator<Uint8Array, undefined> {
    for (const piece of pieces) {
      for (const name of await readdir(path)) seen.add(name);
      yield piece;
    }
  }
  await saveBackup(watched(), join(path, 'backup'));
  assert.deepEqual([...seen], ['backup.draft']);
  assert.deepEqual(await readdir(path), ['backup']);
});

test('a place that cannot be written, or has no room, is told with its name', async (t) => {
  await using cluster = await opened({ nodes: 1 });
  const pieces = await piecesOf(cluster, 'a');
  const path = await folder(t);
  await writeFile(join(path, 'letter'), 'dear');
  await assert.rejects(saveBackup(streamOf(pieces), join(path, 'letter', 'backup')), {
    code: 'INVALID_ARGUMENT',
    message: /cannot be written to \S+backup: ENOTDIR/,
  });
  async function* full(): AsyncGenerator<Uint8Array, undefined> {
    yield* pieces.slice(0, 3);
    throw Object.assign(new Error('ENOSPC: no space left'), { code: 'ENOSPC', syscall: 'write' });
  }
  const place = join(path, 'backup');
  await assert.rejects(saveBackup(full(), place), { code: 'DISK_FULL', message: /ENOSPC/ });
  assert.deepEqual(await readdir(path), ['letter']);
});

test('a backup is not written over another one, nor over what an interrupted one left', async (t) => {
  await using cluster = await opened({ nodes: 1 });
  const { directory } = await backedUp(t, cluster, 'a');
  await assert.rejects(saveBackup(streamOf([]), directory), {
    code: 'INVALID_ARGUMENT',
    message: /there already/,
  });
  await rename(directory, `${directory}.draft`);
  await assert.rejects(saveBackup(streamOf([]), directory), {
    code: 'INVALID_ARGUMENT',
    message: /interrupted/,
  });
});

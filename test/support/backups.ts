// What the tests of backups share: taking one of a node, writing it down, and a new cluster that is made of it.

import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { saveBackup } from '../../src/host/backup-directory.ts';
import type { BackupManifest } from '../../src/host/backup-format.ts';
import { type RestoreResult, restoreBackup } from '../../src/host/backup-restore.ts';
import type { Wal } from '../../src/ports/wal.ts';
import { systemClock } from '../../src/time/system-clock.ts';
import { codeOf, type NodeCluster, nodeCluster, text } from './node-cluster.ts';

/** A directory of the test's own. */
export async function folder(t: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'kommander-backup-'));
  t.after(() => rm(path, { recursive: true, force: true }));
  return path;
}

/** One acknowledged write. */
export async function write(cluster: NodeCluster, name: string, partitionId = 1): Promise<void> {
  const leader = await cluster.leader(partitionId);
  await cluster.drive(cluster.node(leader).replicate(partitionId, 'put', text(name)));
}

/** A cluster that runs. */
export async function opened(
  options: Parameters<typeof nodeCluster>[0] = {},
): Promise<NodeCluster> {
  const cluster = nodeCluster(options);
  await cluster.openAll();
  return cluster;
}

/** All pieces of a backup of `nodeId`. */
export function piecesOf(cluster: NodeCluster, nodeId: string): Promise<readonly Uint8Array[]> {
  return cluster.drive(collected(cluster.node(nodeId).backup()));
}

/** The failure of a backup of `nodeId`. */
export async function failureOf(cluster: NodeCluster, nodeId: string): Promise<string> {
  return codeOf(await cluster.driveFailure(collected(cluster.node(nodeId).backup())));
}

/** All pieces. */
export async function collected(backup: AsyncIterable<Uint8Array>): Promise<readonly Uint8Array[]> {
  const pieces: Uint8Array[] = [];
  for await (const piece of backup) pieces.push(piece);
  return pieces;
}

/** A manifest that somebody has changed and given a checksum that is right. */
export function resealed(manifest: string): string {
  const content = manifest.replace(/,"sha256":"[0-9a-f]{64}"\}\n$/, '');
  const sha256 = createHash('sha256').update(content).digest('hex');
  return `${content},"sha256":"${sha256}"}\n`;
}

/** Pieces as a stream. */
export async function* streamOf(
  pieces: readonly Uint8Array[],
): AsyncGenerator<Uint8Array, undefined> {
  yield* pieces;
}

/** A backup of `nodeId` in a directory. */
export async function backedUp(
  t: TestContext,
  cluster: NodeCluster,
  nodeId: string,
): Promise<{ readonly directory: string; readonly manifest: BackupManifest }> {
  const directory = join(await folder(t), 'backup');
  const manifest = await saveBackup(streamOf(await piecesOf(cluster, nodeId)), directory);
  return { directory, manifest };
}

/** Who is in a cluster, and where. */
export function membersOf(cluster: NodeCluster): Record<string, string> {
  return Object.fromEntries(
    [...cluster.seats.values()].map(({ nodeId, endpoint }) => [nodeId, endpoint]),
  );
}

/** Fills the disk of one seat. */
export function restoreInto(
  cluster: NodeCluster,
  nodeId: string,
  directory: string,
  over: { readonly wal?: Wal } = {},
): Promise<RestoreResult> {
  const wal = over.wal ?? cluster.seat(nodeId).disk.attach(systemClock);
  return restoreBackup({ directory, wal, nodeId, members: membersOf(cluster) });
}

/** A new cluster whose first members were all prepared from one backup. */
export async function restored(
  directory: string,
  options: Parameters<typeof nodeCluster>[0],
): Promise<NodeCluster> {
  const cluster = nodeCluster({ seed: 2, ...options });
  for (const nodeId of cluster.nodeIds) await restoreInto(cluster, nodeId, directory);
  await cluster.openAll();
  return cluster;
}

/** What the journal of a replica has. */
export function textsOf(cluster: NodeCluster, nodeId: string, partitionId = 1): readonly string[] {
  return cluster.journal(nodeId, partitionId).entries.map((entry) => entry.text);
}

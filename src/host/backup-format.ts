// What a backup is made of, as bytes: a manifest (JSON) that names one file per partition, and the stream in which both
// travel from a running node to whoever keeps them. Nothing here reads a disk or a node (docs/internals/backup-format.md).

import { createHash } from 'node:crypto';
import { ByteReader, ByteWriter, MalformedBytesError, utf8Bytes, utf8Text } from '../base/bytes.ts';
import { type ErrorDetails, isErrorCode, isErrorDetails, KommanderError } from '../base/errors.ts';
import { shownJson } from '../base/shown-json.ts';
import type { Timestamp } from '../ports/clock.ts';
import type { NodeId } from '../ports/transport.ts';
import type { PartitionId } from '../ports/wal.ts';
import type { LogIndex, Term } from '../raft/types.ts';
import type { SnapshotPart } from './snapshot-descriptor.ts';

/** The copy of one partition: where in its log it was taken, and the file that holds it. */
interface BackupPlace {
  readonly partition: PartitionId;
  /** In the directory of the manifest. */
  readonly file: string;
  readonly byteLength: number;
  /** Of all bytes of the file: 64 hexadecimal digits. */
  readonly sha256: string;
  /** Everything up to here, inclusive, is in the copy, and nothing behind it. */
  readonly index: LogIndex;
  readonly term: Term;
  /** At or above the timestamps of all entries that are in the copy. */
  readonly timestamp: Timestamp;
}

/** The file holds the state behind `index`, as the state machine gave it. */
export interface BackupState extends BackupPlace {
  readonly kind: 'state';
  /** The last entry that the state machine was given of those that are in the state. */
  readonly machineIndex: LogIndex;
  readonly parts: readonly SnapshotPart[];
}

/** The file holds the committed entries `baseIndex + 1 … index`, as runs. */
export interface BackupLog extends BackupPlace {
  readonly kind: 'log';
  readonly baseIndex: LogIndex;
  readonly baseTerm: Term;
}

export type BackupPartition = BackupState | BackupLog;

/** What `manifest.json` says of a backup. */
export interface BackupManifest {
  /** The cluster and the node that it was taken of. */
  readonly clusterId: string;
  readonly nodeId: NodeId;
  /** At or above the timestamps of all entries that were acknowledged, anywhere, before the backup began. */
  readonly timestamp: Timestamp;
  /** Ascending by partition; the system partition, 0, is the first. */
  readonly partitions: readonly BackupPartition[];
}

const formatName = 'kommander backup';
const formatVersion = 1;
/** Bytes of a manifest: there is room for every partition that a node can have. */
export const manifestBytesMax = 67_108_864;

export function encodeManifest({ partitions, ...rest }: BackupManifest): Uint8Array {
  const head = JSON.stringify({ format: formatName, version: formatVersion, ...rest });
  const lines = partitions.map((each) => `  ${JSON.stringify(each)}`);
  const content = `${head.slice(0, -1)},"partitions":[\n${lines.join(',\n')}\n]`;
  return utf8Bytes(content + sealOf(content));
}

/** The end of a manifest: where in the logs its copies were taken is written nowhere else, and a digit is changed easily. */
function sealOf(content: string): string {
  return `,"sha256":"${createHash('sha256').update(content).digest('hex')}"}\n`;
}

const sealBytes = sealOf('').length;

/** @throws BACKUP_CORRUPT it is no manifest, a changed one, or one of a newer version */
export function decodeManifest(bytes: Uint8Array): BackupManifest {
  let parsed: unknown;
  let text: string;
  try {
    text = utf8Text(bytes);
    parsed = JSON.parse(text);
  } catch (error) {
    if (!(error instanceof SyntaxError || error instanceof MalformedBytesError)) throw error;
    throw corruptBackup(`its manifest is no JSON: ${error.message}`);
  }
  const manifest = fieldsOf(parsed);
  if (manifest.text('format') !== formatName)
    throw corruptBackup('its manifest is of another kind');
  const version = manifest.number('version');
  if (version !== formatVersion) {
    throw corruptBackup(`it has version ${version}; this program reads version ${formatVersion}`);
  }
  const content = text.slice(0, -sealBytes);
  if (text !== content + sealOf(content))
    throw corruptBackup(
      'its manifest is not what was written: the checksum at its end is of another one',
    );
  const partitions = manifest.list('partitions').map(partitionFrom);
  partitions.forEach(({ partition }, at) => {
    const isOrdered = at === 0 ? partition === 0 : partition > (partitions[at - 1]?.partition ?? 0);
    if (!isOrdered) throw corruptBackup('the partitions of its manifest are not in order');
  });
  return {
    clusterId: manifest.text('clusterId'),
    nodeId: manifest.text('nodeId'),
    timestamp: manifest.number('timestamp'),
    partitions,
  };
}

function partitionFrom(value: unknown): BackupPartition {
  const fields = fieldsOf(value);
  const kind = fields.text('kind');
  const place = {
    partition: fields.number('partition'),
    file: fields.text('file'),
    byteLength: fields.number('byteLength'),
    sha256: fields.text('sha256'),
    index: fields.number('index'),
    term: fields.number('term'),
    timestamp: fields.number('timestamp'),
  };
  if (!isFileName(place.file)) throw corruptBackup(`its manifest names the file "${place.file}"`);
  if (kind === 'log') {
    const baseIndex = fields.number('baseIndex');
    if (baseIndex > place.index)
      throw corruptBackup('its manifest has a log that ends before it begins');
    return { kind, ...place, baseIndex, baseTerm: fields.number('baseTerm') };
  }
  if (kind !== 'state') throw corruptBackup(`its manifest has a copy of the kind "${kind}"`);
  const parts = fields.list('parts').map((part) => {
    const each = fieldsOf(part);
    return { name: each.text('name'), byteLength: each.number('byteLength') };
  });
  return { kind, ...place, machineIndex: fields.number('machineIndex'), parts };
}

/** Typed access to what was parsed. */
function fieldsOf(value: unknown): {
  text(name: string): string;
  number(name: string): number;
  list(name: string): readonly unknown[];
} {
  const fields = (typeof value === 'object' && value !== null ? value : {}) as Record<
    string,
    unknown
  >;
  const bad = (name: string): KommanderError =>
    corruptBackup(`its manifest has a bad "${name}": ${shownJson(fields[name], 100)}`);
  return {
    text(name) {
      const field = fields[name];
      if (typeof field !== 'string') throw bad(name);
      return field;
    },
    number(name) {
      const field = fields[name];
      if (typeof field !== 'number' || !Number.isSafeInteger(field) || field < 0) throw bad(name);
      return field;
    },
    list(name) {
      const field = fields[name];
      if (!Array.isArray(field)) throw bad(name);
      return field as readonly unknown[];
    },
  };
}

/** The file of a partition's copy. */
export function backupFileName(partition: PartitionId, kind: BackupPartition['kind']): string {
  return `partition-${partition}.${kind}`;
}

/** Whether a name can be that of a copy: no stream and no manifest reaches outside of its directory. */
export function isFileName(name: string): boolean {
  return /^partition-\d{1,10}\.(?:state|log)$/.test(name);
}

// The stream: frames of kind (u8), length (u32) and that many bytes.

export const FrameKind = {
  /** A file begins: its name. */
  file: 1,
  /** Bytes of the file that was begun last. */
  bytes: 2,
  /** The manifest: the last frame of a whole backup. */
  manifest: 3,
  /** The node cannot go on: why, as JSON. The last frame. */
  failure: 4,
} as const;
export type FrameKind = (typeof FrameKind)[keyof typeof FrameKind];

export interface BackupFrame {
  readonly kind: number;
  readonly bytes: Uint8Array;
}

const frameHeadBytes = 5;
const frameBytesMax: Readonly<Record<number, number>> = {
  [FrameKind.file]: 64,
  [FrameKind.bytes]: 67_108_864,
  [FrameKind.manifest]: manifestBytesMax,
  [FrameKind.failure]: 1_048_576,
};

/** A frame as pieces of the stream; the bytes are not copied. */
export function* frameOf(kind: FrameKind, bytes: Uint8Array): Generator<Uint8Array, undefined> {
  const head = new ByteWriter(frameHeadBytes);
  head.uint8(kind);
  head.uint32(bytes.byteLength);
  yield head.finish();
  if (bytes.byteLength > 0) yield bytes;
}

/**
 * The frames of a stream, whatever its pieces are. One frame is in memory at a time.
 *
 * @throws BACKUP_CORRUPT it is no such stream, or it ends within a frame
 */
export async function* framesOf(
  stream: AsyncIterable<Uint8Array>,
): AsyncGenerator<BackupFrame, undefined> {
  const source = bytesOf(stream);
  try {
    for (;;) {
      const head = await source.take(frameHeadBytes);
      if (head === undefined) return;
      const reader = new ByteReader(head);
      const kind = reader.uint8();
      const byteLength = reader.uint32();
      if (byteLength > (frameBytesMax[kind] ?? -1)) {
        throw corruptBackup(`the stream has a frame of kind ${kind} with ${byteLength} bytes`);
      }
      yield { kind, bytes: byteLength === 0 ? new Uint8Array(0) : await source.need(byteLength) };
    }
  } finally {
    await source.close();
  }
}

/** Bytes of a stream in pieces of a wanted length. */
export interface ByteSource {
  /** Exactly `byteLength` bytes, 1 or more; undefined at the end. @throws BACKUP_CORRUPT fewer are left */
  take(byteLength: number): Promise<Uint8Array | undefined>;
  /** As `take`, and the end is an error too. */
  need(byteLength: number): Promise<Uint8Array>;
  /** Nothing more is wanted. */
  close(): Promise<void>;
}

export function bytesOf(stream: AsyncIterable<Uint8Array>): ByteSource {
  const pieces = stream[Symbol.asyncIterator]();
  let held: Uint8Array[] = [];
  let heldBytes = 0;

  async function fill(byteLength: number): Promise<void> {
    while (heldBytes < byteLength) {
      const next = await pieces.next();
      if (next.done === true) return;
      held.push(next.value);
      heldBytes += next.value.byteLength;
    }
  }

  async function take(byteLength: number): Promise<Uint8Array | undefined> {
    await fill(byteLength);
    if (heldBytes === 0) return undefined;
    if (heldBytes < byteLength) throw corruptBackup('it ends too soon');
    const all = held.length === 1 && held[0] !== undefined ? held[0] : Buffer.concat(held);
    held = all.byteLength > byteLength ? [all.subarray(byteLength)] : [];
    heldBytes -= byteLength;
    return all.subarray(0, byteLength);
  }

  return {
    take,
    async need(byteLength) {
      const bytes = await take(byteLength);
      if (bytes === undefined) throw corruptBackup('it ends too soon');
      return bytes;
    },
    async close() {
      await pieces.return?.();
    },
  };
}

/** The last piece of a stream that cannot go on: `saveBackup` throws `error` where it is received. */
export function backupFailure({ code, message, details }: KommanderError): Uint8Array {
  const bytes = utf8Bytes(JSON.stringify({ code, message, details }));
  return Buffer.concat([...frameOf(FrameKind.failure, bytes)]);
}

/** @throws BACKUP_CORRUPT it says nothing */
export function decodeFailure(bytes: Uint8Array): KommanderError {
  try {
    const parsed: unknown = JSON.parse(utf8Text(bytes));
    const { code, message, details } = (parsed ?? {}) as Readonly<Record<string, unknown>>;
    if (typeof message === 'string' && isErrorCode(code))
      return new KommanderError(message, { code, details: isErrorDetails(details) ? details : {} });
  } catch (error) {
    if (!(error instanceof SyntaxError || error instanceof MalformedBytesError)) throw error;
  }
  return corruptBackup('the node could not go on, and the stream does not say why');
}

/** A backup that must not be used. */
export function corruptBackup(reason: string, details: ErrorDetails = {}): KommanderError {
  return new KommanderError(
    `the backup is not whole: ${reason}; nothing was taken from it: use another one, or copy it again`,
    { code: 'BACKUP_CORRUPT', details: { ...details, reason } },
  );
}

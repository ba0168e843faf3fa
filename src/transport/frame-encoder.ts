// Writes frames in the format of `proto/kommander/v1/raft.proto`, canonically: fields ascending, zeros left out. The
// result is a list of chunks for a gather write, so that runs of entries go to the socket without being copied.
// Small things are carved out of a slab that is never written again. Large frames are split between items.

import { assert, unreachable } from '../base/assert.ts';
import { ByteWriter, utf8Bytes, varintBytes, writeVarint } from '../base/bytes.ts';
import { encodeRuns } from '../ports/run.ts';
import type {
  Frame,
  FrameItem,
  GenesisItem,
  ProposeItem,
  ProposeResponseItem,
  SnapshotIdentity,
  SnapshotPieceItem,
  SnapshotPieceRequestItem,
  SnapshotProgressItem,
} from '../ports/transport.ts';
import type { PartitionId } from '../ports/wal.ts';
import type {
  AppendEntries,
  ConfState,
  InstallSnapshot,
  PeerMessage,
  ReplicaId,
} from '../raft/types.ts';
import {
  bytesTag,
  frameField,
  itemField,
  itemPartitionField,
  messageField,
  varintTag,
} from './wire-fields.ts';

const slabBytes = 65_536;
/** Parts up to this size are copied into the slab: one more buffer in a gather write costs more than the copy. */
const copyBytesMax = 4_096;
/** Room for an item without variable parts: its lengths then take one byte each. */
const scalarItemBytesMax = 128;

export interface FrameEncoderOptions {
  /** Bytes of one encoded frame; a single item that does not fit is left out. */
  readonly frameBytesMax: number;
  /** A frame that has reached this many bytes is ended and the rest goes into another one. */
  readonly frameBytesTarget: number;
  /** Bytes left free at the beginning of a frame's first chunk, for the caller to fill in. */
  readonly headroomBytes: number;
}

/** A frame as it goes over the wire. The chunks must not be changed, except for the headroom. */
export interface EncodedFrame {
  readonly chunks: readonly Uint8Array[];
  /** Bytes of all chunks, headroom included. */
  readonly byteLength: number;
}

export interface EncodeResult {
  readonly frames: readonly EncodedFrame[];
  /** Items that were left out because they are larger than `frameBytesMax`. */
  readonly oversizedCount: number;
}

/** Encodes frames; keeps the slab that small parts are carved out of. */
export class FrameEncoder {
  readonly #options: FrameEncoderOptions;
  #slab: Uint8Array = new Uint8Array(0);
  #at = 0;
  /** Where the open segment of the slab begins: what is written but not yet a chunk. */
  #segmentStart = 0;
  #chunks: Uint8Array[] = [];
  #chunkBytes = 0;
  #timestamp = 0;
  #isFrameOpen = false;
  readonly #scratch: Uint8Array = new Uint8Array(scalarItemBytesMax);

  constructor(options: FrameEncoderOptions) {
    assert(options.frameBytesTarget <= options.frameBytesMax, 'the target is at most the maximum');
    this.#options = options;
  }

  encode(frame: Frame): EncodeResult {
    const frames: EncodedFrame[] = [];
    let oversizedCount = 0;
    this.#timestamp = frame.timestamp;
    this.#abandon();
    this.#openFrame();
    for (const item of frame.items) if (!this.#tryItem(item, frames)) oversizedCount += 1;
    if (this.#isFrameOpen) frames.push(this.#closeFrame());
    return { frames, oversizedCount };
  }

  /** Forgets what a call that threw has left behind. */
  #abandon(): void {
    this.#chunks = [];
    this.#chunkBytes = 0;
    this.#segmentStart = this.#at;
    this.#isFrameOpen = false;
  }

  #openFrame(): void {
    assert(!this.#isFrameOpen, 'one frame is written at a time');
    const { headroomBytes } = this.#options;
    this.#reserve(headroomBytes + scalarItemBytesMax);
    this.#segmentStart = this.#at;
    this.#at = putNumber(
      this.#slab,
      this.#at + headroomBytes,
      varintTag(frameField.timestamp),
      this.#timestamp,
    );
    this.#isFrameOpen = true;
  }

  #closeFrame(): EncodedFrame {
    this.#cut();
    const encoded = { chunks: this.#chunks, byteLength: this.#chunkBytes };
    this.#chunks = [];
    this.#chunkBytes = 0;
    this.#isFrameOpen = false;
    return encoded;
  }

  get #frameBytes(): number {
    return this.#chunkBytes + this.#at - this.#segmentStart - this.#options.headroomBytes;
  }

  /** Makes the open segment of the slab a chunk. */
  #cut(): void {
    if (this.#at === this.#segmentStart) return;
    this.#push(this.#slab.subarray(this.#segmentStart, this.#at));
    this.#segmentStart = this.#at;
  }

  #push(chunk: Uint8Array): void {
    this.#chunks.push(chunk);
    this.#chunkBytes += chunk.byteLength;
  }

  #reserve(length: number): void {
    if (this.#at + length <= this.#slab.byteLength) return;
    this.#cut();
    this.#slab = Buffer.allocUnsafeSlow(Math.max(slabBytes, length));
    this.#at = 0;
    this.#segmentStart = 0;
  }

  /** Ends the open frame when `itemBytes` more would be too many, or when it has reached its target. */
  #makeRoom(itemBytes: number, frames: EncodedFrame[]): void {
    if (this.#isFrameOpen) {
      const { frameBytesTarget, frameBytesMax } = this.#options;
      const bytes = this.#frameBytes;
      if (bytes < frameBytesTarget && bytes + itemBytes <= frameBytesMax) return;
      frames.push(this.#closeFrame());
    }
    this.#openFrame();
  }

  #tryItem(item: FrameItem, frames: EncodedFrame[]): boolean {
    switch (item.kind) {
      case 'raft':
        return this.#tryMessage(item.partitionId, item.message, frames);
      case 'snapshotPiece':
        return this.#tryLongItem(snapshotPieceParts(item, this.#scratch), frames);
      case 'snapshotPieceRequest':
        return this.#tryLongItem(
          wholeBody(item.partitionId, itemField.snapshotPieceRequest, pieceRequestBody(item)),
          frames,
        );
      case 'snapshotProgress':
        return this.#tryLongItem(
          wholeBody(item.partitionId, itemField.snapshotProgress, snapshotProgressBody(item)),
          frames,
        );
      case 'propose':
        return this.#tryLongItem(proposeParts(item, this.#scratch), frames);
      case 'proposeResponse':
        return this.#tryLongItem(
          wholeBody(item.partitionId, itemField.proposeResponse, proposeResponseBody(item)),
          frames,
        );
      case 'genesis':
        return this.#tryLongItem(wholeBody(0, itemField.genesis, genesisBody(item)), frames);
      default:
        return unreachable(item);
    }
  }

  #tryMessage(partitionId: PartitionId, message: PeerMessage, frames: EncodedFrame[]): boolean {
    if (message.type === 'appendEntries')
      return this.#tryLongItem(appendEntriesParts(partitionId, message, this.#scratch), frames);
    if (message.type === 'installSnapshot') {
      const body = installSnapshotBody(message);
      return this.#tryLongItem(wholeBody(partitionId, messageField.installSnapshot, body), frames);
    }
    this.#makeRoom(scalarItemBytesMax, frames);
    this.#reserve(scalarItemBytesMax);
    const bytes = this.#slab;
    const start = this.#at;
    bytes[start] = bytesTag(frameField.items);
    let at = putNumber(bytes, start + 2, varintTag(itemPartitionField), partitionId);
    bytes[at++] = bytesTag(messageField[message.type]);
    const bodyStart = at + 1;
    const end = putScalars(bytes, bodyStart, message);
    bytes[at] = end - bodyStart;
    bytes[start + 1] = end - start - 2;
    assert(end - start <= scalarItemBytesMax, 'an item without variable parts has short lengths');
    this.#at = end;
    return true;
  }

  /** An item whose size is known beforehand: a short head and parts that are written without copying. */
  #tryLongItem(item: LongItem, frames: EncodedFrame[]): boolean {
    let bodyBytes = item.head.byteLength;
    for (const part of item.parts) bodyBytes += 1 + varintBytes(part.byteLength) + part.byteLength;
    const tag = bytesTag(item.field);
    const itemBytes =
      numberBytes(item.partitionId) + varintBytes(tag) + varintBytes(bodyBytes) + bodyBytes;
    const totalBytes = 1 + varintBytes(itemBytes) + itemBytes;
    if (totalBytes + scalarItemBytesMax > this.#options.frameBytesMax) return false;
    this.#makeRoom(totalBytes, frames);
    this.#reserve(scalarItemBytesMax);
    const bytes = this.#slab;
    bytes[this.#at] = bytesTag(frameField.items);
    let at = writeVarint(bytes, this.#at + 1, itemBytes);
    at = putNumber(bytes, at, varintTag(itemPartitionField), item.partitionId);
    at = writeVarint(bytes, at, tag);
    this.#at = writeVarint(bytes, at, bodyBytes);
    this.#write(item.head);
    for (const part of item.parts) {
      this.#reserve(scalarItemBytesMax);
      this.#slab[this.#at] = bytesTag(item.partField);
      this.#at = writeVarint(this.#slab, this.#at + 1, part.byteLength);
      this.#write(part);
    }
    return true;
  }

  #write(bytes: Uint8Array): void {
    if (bytes.byteLength > copyBytesMax) {
      this.#cut();
      this.#push(bytes);
      return;
    }
    this.#reserve(bytes.byteLength);
    this.#slab.set(bytes, this.#at);
    this.#at += bytes.byteLength;
  }
}

/** One item: `head` are its encoded fields up to the repeated field `partField`, whose values are `parts`. */
interface LongItem {
  readonly partitionId: PartitionId;
  readonly field: number;
  readonly head: Uint8Array;
  readonly partField: number;
  readonly parts: readonly Uint8Array[];
}

/** Messages whose encoded size has a small bound. */
type ScalarMessage = Exclude<PeerMessage, AppendEntries | InstallSnapshot>;

function putScalars(bytes: Uint8Array, offset: number, message: ScalarMessage): number {
  let at = putEnvelope(bytes, offset, message);
  switch (message.type) {
    case 'appendEntriesResponse':
      at = putNumber(bytes, at, 32, message.index);
      at = putFlag(bytes, at, 40, message.rejected);
      at = putNumber(bytes, at, 48, message.hintIndex);
      return putNumber(bytes, at, 56, message.hintTerm);
    case 'requestVote':
      at = putFlag(bytes, at, 32, message.preVote);
      at = putNumber(bytes, at, 40, message.lastLogIndex);
      at = putNumber(bytes, at, 48, message.lastLogTerm);
      return putFlag(bytes, at, 56, message.leadershipTransfer);
    case 'requestVoteResponse':
      at = putFlag(bytes, at, 32, message.preVote);
      at = putFlag(bytes, at, 40, message.rejected);
      at = putNumber(bytes, at, 48, message.lastLogIndex);
      at = putNumber(bytes, at, 56, message.lastLogTerm);
      at = putNumber(bytes, at, 64, message.commitIndex);
      return putNumber(bytes, at, 72, message.commitTerm);
    case 'heartbeat':
      at = putNumber(bytes, at, 32, message.leaderCommit);
      return putOptional(bytes, at, 40, message.readRound);
    case 'heartbeatResponse':
      return putOptional(bytes, at, 32, message.readRound);
    case 'timeoutNow':
      return at;
    case 'transferLeadership':
      return putNumber(bytes, at, 32, message.transferee);
    case 'readIndex':
      return putNumber(bytes, at, 32, message.context);
    case 'readIndexResponse':
      at = putNumber(bytes, at, 32, message.context);
      return putNumber(bytes, at, 40, message.index);
    default:
      return unreachable(message);
  }
}

function putEnvelope(bytes: Uint8Array, offset: number, message: PeerMessage): number {
  let at = putNumber(bytes, offset, 8, message.from);
  at = putNumber(bytes, at, 16, message.to);
  return putNumber(bytes, at, 24, message.term);
}

/** Tags up to 127 only: fields 1 … 15. */
function putNumber(bytes: Uint8Array, at: number, tag: number, value: number): number {
  return value === 0 ? at : putOptional(bytes, at, tag, value);
}

function putOptional(
  bytes: Uint8Array,
  at: number,
  tag: number,
  value: number | undefined,
): number {
  if (value === undefined) return at;
  assert(value >= 0, 'numbers on the wire are not negative');
  assert(value <= Number.MAX_SAFE_INTEGER, 'numbers on the wire are safe integers');
  bytes[at] = tag;
  return writeVarint(bytes, at + 1, value);
}

function putFlag(bytes: Uint8Array, at: number, tag: number, value: boolean): number {
  if (!value) return at;
  bytes[at] = tag;
  bytes[at + 1] = 1;
  return at + 2;
}

function numberBytes(value: number): number {
  return value === 0 ? 0 : 1 + varintBytes(value);
}

function appendEntriesParts(
  partitionId: PartitionId,
  message: AppendEntries,
  scratch: Uint8Array,
): LongItem {
  let at = putEnvelope(scratch, 0, message);
  at = putNumber(scratch, at, 32, message.prevLogIndex);
  at = putNumber(scratch, at, 40, message.prevLogTerm);
  at = putNumber(scratch, at, 48, message.leaderCommit);
  return {
    partitionId,
    field: messageField.appendEntries,
    head: scratch.subarray(0, at),
    partField: 7,
    parts: encodeRuns(message.entries),
  };
}

function snapshotPieceParts(item: SnapshotPieceItem, scratch: Uint8Array): LongItem {
  let at = putIdentity(scratch, 0, item.snapshot);
  at = putNumber(scratch, at, 16, item.offset);
  at = putNumber(scratch, at, 24, item.checksum);
  return {
    partitionId: item.partitionId,
    field: itemField.snapshotPiece,
    head: scratch.subarray(0, at),
    partField: 4,
    parts: item.bytes.byteLength === 0 ? [] : [item.bytes],
  };
}

/** Field 1: a message of three numbers, whose length takes one byte. */
function putIdentity(bytes: Uint8Array, offset: number, identity: SnapshotIdentity): number {
  bytes[offset] = bytesTag(1);
  const start = offset + 2;
  let at = putNumber(bytes, start, 8, identity.index);
  at = putNumber(bytes, at, 16, identity.byteLength);
  at = putNumber(bytes, at, 24, identity.checksum);
  bytes[offset + 1] = at - start;
  return at;
}

function pieceRequestBody({ snapshot, to, offset }: SnapshotPieceRequestItem): Uint8Array {
  const numbers = new Uint8Array(scalarItemBytesMax);
  const identityEnd = putIdentity(numbers, 0, snapshot);
  const end = putNumber(numbers, identityEnd, 24, offset);
  const writer = new ByteWriter(128);
  writer.raw(numbers.subarray(0, identityEnd));
  writeText(writer, 2, to);
  writer.raw(numbers.subarray(identityEnd, end));
  return writer.finish();
}

function snapshotProgressBody(item: SnapshotProgressItem): Uint8Array {
  const body = new Uint8Array(scalarItemBytesMax);
  let at = putIdentity(body, 0, item.snapshot);
  at = putNumber(body, at, 16, item.receivedBytes);
  at = putFlag(body, at, 24, item.isBroken);
  return body.subarray(0, at);
}

function proposeParts(item: ProposeItem, scratch: Uint8Array): LongItem {
  return {
    partitionId: item.partitionId,
    field: itemField.propose,
    head: scratch.subarray(0, putNumber(scratch, 0, 8, item.requestId)),
    partField: 2,
    parts: item.payloads,
  };
}

function wholeBody(partitionId: PartitionId, field: number, body: Uint8Array): LongItem {
  return { partitionId, field, head: body, partField: 0, parts: [] };
}

function installSnapshotBody(message: InstallSnapshot): Uint8Array {
  const { snapshot } = message;
  const inner = new ByteWriter(snapshot.data.byteLength + 256);
  writeNumber(inner, 1, snapshot.index);
  writeNumber(inner, 2, snapshot.term);
  writeBytes(inner, 3, confStateBody(snapshot.confState));
  if (snapshot.data.byteLength > 0) writeBytes(inner, 4, snapshot.data);
  const body = new ByteWriter(inner.length + 64);
  writeNumber(body, 1, message.from);
  writeNumber(body, 2, message.to);
  writeNumber(body, 3, message.term);
  writeBytes(body, 4, inner.finish());
  return body.finish();
}

function confStateBody(confState: ConfState): Uint8Array {
  const body = new ByteWriter(64);
  writePacked(body, 1, confState.voters);
  writePacked(body, 2, confState.votersOutgoing);
  writePacked(body, 3, confState.learners);
  writePacked(body, 4, confState.learnersNext);
  writeNumber(body, 5, confState.autoLeave ? 1 : 0);
  return body.finish();
}

function proposeResponseBody(item: ProposeResponseItem): Uint8Array {
  const body = new ByteWriter(64);
  writeNumber(body, 1, item.requestId);
  if (item.appended !== undefined) {
    const appended = new ByteWriter(32);
    writeNumber(appended, 1, item.appended.firstIndex);
    writeNumber(appended, 2, item.appended.term);
    writeBytes(body, 2, appended.finish());
  }
  if (item.refused !== undefined) {
    const refused = new ByteWriter(128);
    writeText(refused, 1, item.refused.code);
    writeText(refused, 2, item.refused.message);
    writeText(refused, 3, JSON.stringify(item.refused.details));
    writeBytes(body, 3, refused.finish());
  }
  return body.finish();
}

function genesisBody(item: GenesisItem): Uint8Array {
  const body = new ByteWriter(64);
  writeText(body, 1, item.recordHash);
  writeNumber(body, 2, item.complete ? 1 : 0);
  for (const { nodeId, nonce, replicaId } of item.acceptances) {
    const acceptance = new ByteWriter(64);
    writeText(acceptance, 1, nodeId);
    writeText(acceptance, 2, nonce);
    writeNumber(acceptance, 3, replicaId);
    writeBytes(body, 3, acceptance.finish());
  }
  writeText(body, 4, item.endpoint ?? '');
  return body.finish();
}

function writeNumber(writer: ByteWriter, field: number, value: number): void {
  if (value === 0) return;
  writer.varint(varintTag(field));
  writer.varint(value);
}

function writeBytes(writer: ByteWriter, field: number, bytes: Uint8Array): void {
  writer.varint(bytesTag(field));
  writer.varint(bytes.byteLength);
  writer.raw(bytes);
}

function writeText(writer: ByteWriter, field: number, text: string): void {
  if (text !== '') writeBytes(writer, field, utf8Bytes(text));
}

function writePacked(writer: ByteWriter, field: number, values: readonly ReplicaId[]): void {
  if (values.length === 0) return;
  const packed = new ByteWriter(values.length * 5);
  for (const value of values) packed.varint(value);
  writeBytes(writer, field, packed.finish());
}

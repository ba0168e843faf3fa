// Reads frames of `proto/kommander/v1/raft.proto`. Nothing is trusted: every length is checked against its frame, every
// run against its checksum. An item that is broken or unknown is skipped and counted, and the others are kept; a frame
// whose own structure is broken is refused as a whole. Entries and payloads stay views of what was received.

import { MalformedBytesError, utf8Text } from '../base/bytes.ts';
import {
  type ErrorCode,
  type ErrorDetails,
  isErrorCode,
  isErrorDetails,
  KommanderError,
} from '../base/errors.ts';
import { decodeRun, readRunHeader } from '../ports/run.ts';
import type { Frame, FrameItem, GenesisAcceptance, SnapshotIdentity } from '../ports/transport.ts';
import type { PartitionId } from '../ports/wal.ts';
import type {
  ConfState,
  Entry,
  PeerMessage,
  PeerMessageType,
  ReplicaId,
  Snapshot,
} from '../raft/types.ts';
import {
  bytesTag,
  fieldMax,
  frameField,
  itemField,
  itemPartitionField,
  messageField,
  varintTag,
  wireType,
} from './wire-fields.ts';
import { checkListed, FieldReader, WireReader } from './wire-reader.ts';

/** Broken items in one frame above which the frame itself is taken for broken: each one costs an exception. */
const brokenItemsMax = 64;
const int32Max = 2_147_483_647;
const noBytes: Uint8Array = new Uint8Array(0);

export interface DecodedFrame {
  readonly frame: Frame;
  /** Items that were broken or of an unknown kind. */
  readonly skippedCount: number;
  /** What was wrong with the first broken item. */
  readonly firstProblem: string | undefined;
}

/** Decodes frames; keeps the cursors that it reads with. */
export class FrameDecoder {
  readonly #frame: WireReader = new WireReader();
  readonly #item: WireReader = new WireReader();
  readonly #fields: FieldReader = new FieldReader(fieldMax);
  #items: FrameItem[] = [];
  /** Items, entries, payloads and acceptances in the frame so far. */
  #listedCount = 0;
  #unknownCount = 0;
  #brokenCount = 0;
  #firstProblem: string | undefined;

  /**
   * Reads one frame.
   *
   * @param bytes exactly one frame; what is decoded may keep views of it, so nobody may change it afterwards
   * @throws MALFORMED_MESSAGE the frame's structure is broken
   */
  decode(bytes: Uint8Array): DecodedFrame {
    this.#items = [];
    this.#listedCount = 0;
    this.#unknownCount = 0;
    this.#brokenCount = 0;
    this.#firstProblem = undefined;
    let timestamp = 0;
    const reader = this.#frame;
    reader.reset(bytes, 0, bytes.byteLength);
    try {
      while (reader.at < reader.end) {
        const tag = reader.varint();
        if (tag === bytesTag(frameField.items)) this.#decodeItem(bytes, reader);
        else if (tag === varintTag(frameField.timestamp)) timestamp = reader.varint();
        else reader.skipField(tag);
      }
    } catch (error) {
      if (!(error instanceof MalformedBytesError)) throw error;
      throw malformed(`a frame of ${bytes.byteLength} bytes is broken: ${error.message}`, error);
    }
    return {
      frame: { timestamp, items: this.#items },
      skippedCount: this.#unknownCount + this.#brokenCount,
      firstProblem: this.#firstProblem,
    };
  }

  #decodeItem(bytes: Uint8Array, frame: WireReader): void {
    const length = frame.varint();
    const start = frame.at;
    frame.skip(length);
    this.#item.reset(bytes, start, frame.at);
    try {
      const item = this.#readItem(this.#item);
      if (item === undefined) this.#unknownCount += 1;
      else this.#items.push(item);
      this.#listedCount += item === undefined ? 0 : 1 + listedIn(item);
    } catch (error) {
      if (!(error instanceof MalformedBytesError)) throw error;
      this.#brokenCount += 1;
      this.#firstProblem ??= error.message;
      if (this.#brokenCount > brokenItemsMax)
        throw new MalformedBytesError(`more than ${brokenItemsMax} broken items`);
    }
    checkListed(this.#listedCount, bytes.byteLength);
  }

  /** @returns undefined for an item of an unknown kind */
  #readItem(reader: WireReader): FrameItem | undefined {
    let partitionId = 0;
    let field = 0;
    let bodyStart = 0;
    let bodyEnd = 0;
    while (reader.at < reader.end) {
      const tag = reader.varint();
      if (tag === varintTag(itemPartitionField)) {
        partitionId = reader.varint();
      } else if (tag % 8 === wireType.bytes) {
        const length = reader.varint();
        field = Math.floor(tag / 8);
        bodyStart = reader.at;
        reader.skip(length);
        bodyEnd = reader.at;
      } else reader.skipField(tag);
    }
    const read = itemReaders[field];
    if (read === undefined) return undefined;
    if (partitionId > int32Max) throw new MalformedBytesError(`partition ${partitionId}`);
    this.#fields.read(reader.bytes, bodyStart, bodyEnd);
    return read(this.#fields, partitionId);
  }
}

function malformed(message: string, cause: unknown): KommanderError {
  return new KommanderError(message, { code: 'MALFORMED_MESSAGE', cause });
}

type ItemReader = (fields: FieldReader, partitionId: PartitionId) => FrameItem;
type MessageReader<Type extends PeerMessageType> = (
  fields: FieldReader,
) => Extract<PeerMessage, { readonly type: Type }>;

const messageReaders: { readonly [Type in PeerMessageType]: MessageReader<Type> } = {
  appendEntries: (fields) => {
    const prevLogIndex = fields.number(4);
    return {
      type: 'appendEntries',
      from: replica(fields.number(1)),
      to: replica(fields.number(2)),
      term: fields.number(3),
      prevLogIndex,
      prevLogTerm: fields.number(5),
      entries: readEntries(fields, prevLogIndex),
      leaderCommit: fields.number(6),
    };
  },
  appendEntriesResponse: (fields) => ({
    type: 'appendEntriesResponse',
    from: replica(fields.number(1)),
    to: replica(fields.number(2)),
    term: fields.number(3),
    index: fields.number(4),
    rejected: fields.flag(5),
    hintIndex: fields.number(6),
    hintTerm: fields.number(7),
  }),
  requestVote: (fields) => ({
    type: 'requestVote',
    from: replica(fields.number(1)),
    to: replica(fields.number(2)),
    term: fields.number(3),
    preVote: fields.flag(4),
    lastLogIndex: fields.number(5),
    lastLogTerm: fields.number(6),
    leadershipTransfer: fields.flag(7),
  }),
  requestVoteResponse: (fields) => ({
    type: 'requestVoteResponse',
    from: replica(fields.number(1)),
    to: replica(fields.number(2)),
    term: fields.number(3),
    preVote: fields.flag(4),
    rejected: fields.flag(5),
    lastLogIndex: fields.number(6),
    lastLogTerm: fields.number(7),
    commitIndex: fields.number(8),
    commitTerm: fields.number(9),
  }),
  heartbeat: (fields) => ({
    type: 'heartbeat',
    from: replica(fields.number(1)),
    to: replica(fields.number(2)),
    term: fields.number(3),
    leaderCommit: fields.number(4),
    readRound: fields.optional(5),
  }),
  heartbeatResponse: (fields) => ({
    type: 'heartbeatResponse',
    from: replica(fields.number(1)),
    to: replica(fields.number(2)),
    term: fields.number(3),
    readRound: fields.optional(4),
  }),
  installSnapshot: (fields) => ({
    type: 'installSnapshot',
    from: replica(fields.number(1)),
    to: replica(fields.number(2)),
    term: fields.number(3),
    snapshot: readSnapshot(required(fields.bytes(4), 'snapshot')),
  }),
  timeoutNow: (fields) => ({
    type: 'timeoutNow',
    from: replica(fields.number(1)),
    to: replica(fields.number(2)),
    term: fields.number(3),
  }),
  transferLeadership: (fields) => ({
    type: 'transferLeadership',
    from: replica(fields.number(1)),
    to: replica(fields.number(2)),
    term: fields.number(3),
    transferee: replica(fields.number(4)),
  }),
  readIndex: (fields) => ({
    type: 'readIndex',
    from: replica(fields.number(1)),
    to: replica(fields.number(2)),
    term: fields.number(3),
    context: fields.number(4),
  }),
  readIndexResponse: (fields) => ({
    type: 'readIndexResponse',
    from: replica(fields.number(1)),
    to: replica(fields.number(2)),
    term: fields.number(3),
    context: fields.number(4),
    index: fields.number(5),
  }),
};

const otherReaders: Readonly<Record<keyof typeof itemField, ItemReader>> = {
  snapshotPiece: (fields, partitionId) => ({
    kind: 'snapshotPiece',
    partitionId,
    snapshot: readIdentity(required(fields.bytes(1), 'snapshot')),
    offset: fields.number(2),
    checksum: fields.number(3),
    bytes: owned(fields.bytes(4) ?? noBytes),
  }),
  snapshotPieceRequest: (fields, partitionId) => ({
    kind: 'snapshotPieceRequest',
    partitionId,
    snapshot: readIdentity(required(fields.bytes(1), 'snapshot')),
    to: utf8Text(fields.bytes(2) ?? noBytes),
    offset: fields.number(3),
  }),
  snapshotProgress: (fields, partitionId) => ({
    kind: 'snapshotProgress',
    partitionId,
    snapshot: readIdentity(required(fields.bytes(1), 'snapshot')),
    receivedBytes: fields.number(2),
    isBroken: fields.flag(3),
  }),
  propose: (fields, partitionId) => ({
    kind: 'propose',
    partitionId,
    requestId: fields.number(1),
    payloads: fields.repeatedBytes(2),
  }),
  proposeResponse: (fields, partitionId) => {
    const requestId = fields.number(1);
    const appended = fields.bytes(2);
    const refused = fields.bytes(3);
    return {
      kind: 'proposeResponse',
      partitionId,
      requestId,
      appended: appended === undefined ? undefined : readAppended(appended),
      refused: refused === undefined ? undefined : readRefusal(refused),
    };
  },
  genesis: (fields) => {
    const ofAcceptance = new FieldReader(fieldMax);
    return {
      kind: 'genesis',
      recordHash: utf8Text(fields.bytes(1) ?? noBytes),
      complete: fields.flag(2),
      acceptances: fields.repeatedBytes(3).map((bytes) => readAcceptance(bytes, ofAcceptance)),
      endpoint: utf8Text(fields.bytes(4) ?? noBytes) || undefined,
    };
  },
};

/** By field number of `FrameItem`. */
const itemReaders: readonly (ItemReader | undefined)[] = (() => {
  const readers = new Array<ItemReader | undefined>(fieldMax + 1).fill(undefined);
  for (const [type, field] of Object.entries(messageField) as [PeerMessageType, number][]) {
    const read = messageReaders[type];
    readers[field] = (fields, partitionId) => ({
      kind: 'raft',
      partitionId,
      message: read(fields),
    });
  }
  for (const [kind, field] of Object.entries(itemField) as [keyof typeof itemField, number][])
    readers[field] = otherReaders[kind];
  return readers;
})();

/** What an item holds several of. */
function listedIn(item: FrameItem): number {
  if (item.kind === 'propose') return item.payloads.length;
  if (item.kind === 'genesis') return item.acceptances.length;
  const isAppend = item.kind === 'raft' && item.message.type === 'appendEntries';
  return isAppend ? item.message.entries.length : 0;
}

function replica(value: number): ReplicaId {
  if (value < 1 || value > int32Max) throw new MalformedBytesError(`replica id ${value}`);
  return value;
}

function required<T>(value: T | undefined, name: string): T {
  if (value === undefined) throw new MalformedBytesError(`${name} is missing`);
  return value;
}

function readEntries(fields: FieldReader, prevLogIndex: number): readonly Entry[] {
  const runs = fields.repeatedBytes(7);
  let entryCount = 0;
  let byteLength = 0;
  for (const run of runs) {
    entryCount += readRunHeader(run).entryCount;
    byteLength += run.byteLength;
  }
  checkListed(entryCount, byteLength);
  const [first] = runs;
  if (first === undefined) return [];
  const entries = decodeRun(owned(first));
  for (let i = 1; i < runs.length; i++) {
    // A loop, since spreading a large array into `push` can exceed the stack.
    for (const entry of decodeRun(owned(runs[i] as Uint8Array))) entries.push(entry);
  }
  checkContiguous(entries, prevLogIndex);
  return entries;
}

function checkContiguous(entries: readonly Entry[], prevLogIndex: number): void {
  let index = prevLogIndex;
  let term = 0;
  for (const entry of entries) {
    index += 1;
    if (entry.index !== index)
      throw new MalformedBytesError(`entry ${entry.index} where ${index} is next`);
    if (entry.term < term) throw new MalformedBytesError(`term ${entry.term} after ${term}`);
    term = entry.term;
  }
}

/**
 * Bytes that may be kept for long: a view when it fills a good part of its memory, and else a copy, so that a small
 * entry does not hold a whole received chunk.
 */
function owned(view: Uint8Array): Uint8Array {
  return view.byteLength * 4 >= view.buffer.byteLength ? view : view.slice();
}

function readSnapshot(bytes: Uint8Array): Snapshot {
  const fields = new FieldReader(fieldMax);
  fields.read(bytes, 0, bytes.byteLength);
  return {
    index: fields.number(1),
    term: fields.number(2),
    confState: readConfState(required(fields.bytes(3), 'conf_state')),
    data: owned(fields.bytes(4) ?? noBytes),
  };
}

function readIdentity(bytes: Uint8Array): SnapshotIdentity {
  const fields = new FieldReader(fieldMax);
  fields.read(bytes, 0, bytes.byteLength);
  return { index: fields.number(1), byteLength: fields.number(2), checksum: fields.number(3) };
}

function readConfState(bytes: Uint8Array): ConfState {
  const lists: ReplicaId[][] = [[], [], [], [], []];
  let autoLeave = false;
  const reader = new WireReader();
  reader.reset(bytes, 0, bytes.byteLength);
  while (reader.at < reader.end) {
    const tag = reader.varint();
    const list = lists[Math.floor(tag / 8)];
    if (tag === varintTag(5)) autoLeave = reader.varint() !== 0;
    else if (list === undefined || tag < 8) reader.skipField(tag);
    else if (tag % 8 === wireType.varint) list.push(replica(reader.varint()));
    else if (tag % 8 === wireType.bytes) readPacked(reader, list);
    else reader.skipField(tag);
  }
  const [, voters = [], votersOutgoing = [], learners = [], learnersNext = []] = lists;
  return { voters, votersOutgoing, learners, learnersNext, autoLeave };
}

function readPacked(reader: WireReader, list: ReplicaId[]): void {
  const end = reader.varint() + reader.at;
  if (end > reader.end) throw new MalformedBytesError('a packed list is longer than its message');
  while (reader.at < end) list.push(replica(reader.varint()));
  if (reader.at !== end) throw new MalformedBytesError('a packed list ends inside a number');
}

function readAppended(bytes: Uint8Array): { readonly firstIndex: number; readonly term: number } {
  const fields = new FieldReader(fieldMax);
  fields.read(bytes, 0, bytes.byteLength);
  return { firstIndex: fields.number(1), term: fields.number(2) };
}

function readAcceptance(bytes: Uint8Array, fields: FieldReader): GenesisAcceptance {
  fields.read(bytes, 0, bytes.byteLength);
  return {
    nodeId: utf8Text(fields.bytes(1) ?? noBytes),
    nonce: utf8Text(fields.bytes(2) ?? noBytes),
    replicaId: replica(fields.number(3)),
  };
}

/** @throws MalformedBytesError unknown code, or details that are no flat JSON object */
function readRefusal(bytes: Uint8Array): {
  readonly code: ErrorCode;
  readonly message: string;
  readonly details: ErrorDetails;
} {
  const fields = new FieldReader(fieldMax);
  fields.read(bytes, 0, bytes.byteLength);
  const code = utf8Text(fields.bytes(1) ?? noBytes);
  if (!isErrorCode(code)) throw new MalformedBytesError(`error code ${JSON.stringify(code)}`);
  return {
    code,
    message: utf8Text(fields.bytes(2) ?? noBytes),
    details: readDetails(utf8Text(fields.bytes(3) ?? noBytes)),
  };
}

function readDetails(json: string): ErrorDetails {
  if (json === '') return {};
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (error) {
    throw new MalformedBytesError(`details are no JSON: ${String(error)}`);
  }
  if (!isErrorDetails(value)) throw new MalformedBytesError('details are no flat JSON object');
  return value;
}

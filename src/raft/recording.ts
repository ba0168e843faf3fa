// The last inputs of a core, always on: what a replica that breaks a rule leaves as evidence. They are noted on the path
// of every message, so the frequent ones are a few 32-bit words each, relative to where their segment begins, and cost
// no allocation; rare ones, and those that do not fit, are objects beside the words. Two segments are kept. Each begins
// with a copy of the state, so that the older one can be replayed from its beginning; when the younger one is full, the
// older one goes. `recording-reader.ts` reads what is written here.

import { must } from '../base/assert.ts';
import type { CoreAnswer, CoreInput } from './core-input.ts';
import { type CoreCopy, copyCore } from './core-state.ts';
import { hexOf, hollowMessage, hollowSnapshot, runsOf } from './hollow.ts';
import type { RaftConfig, RaftState } from './state.ts';
import {
  type AppendEntries,
  type AppendEntriesResponse,
  type Entry,
  EntryKind,
  type Heartbeat,
  type HeartbeatResponse,
  type LogIndex,
  type Message,
  type ProposedEntry,
  type ReplicaId,
  type Snapshot,
  type StorageAppended,
  type StorageApplied,
  type Term,
} from './types.ts';

/** What the low bits of an input's or an answer's first word say; above them it has a small number. */
export const Code = {
  /** Number: how often the cycle that begins here was repeated, see `recordTick`. */
  tick: 0,
  takeReady: 1,
  advance: 2,
  /** No input: the messages that follow are of another term, relative to the segment's. */
  term: 3,
  /** Messages. Number: the sender. */
  appendEntries: 4,
  appendMixed: 5,
  acknowledgement: 6,
  heartbeat: 7,
  heartbeatResponse: 8,
  storageAppended: 9,
  storageApplied: 10,
  /** Number: the count of entries, which are all of one size. */
  propose: 11,
  proposeMixed: 12,
  /** Number: which of the objects it is, an input or an answer. */
  object: 13,
  /** Answers. Number: what was drawn; the count of entries. */
  drawn: 14,
  entries: 15,
  noEntries: 16,
  noSnapshot: 17,
} as const;
export const codeBits = 5;
export const codeMask = 0x1f;
const numberMax = 0x3ff_ffff;

/**
 * Mixed entries are pairs: a payload's size and how many entries in a row have it. In place of a size: the term of what
 * follows, relative to the segment's (before that it is the segment's own); or a configuration change, whose payload is
 * among the objects.
 */
export const Mark = { term: -1, confChange: -2 } as const;
/** In place of the round of a heartbeat. */
export const noRound = -1;

/** Inputs and answers of one stretch of time. */
export interface Segment {
  /** The state before the first input; its entries in memory are the first thing among the words. */
  readonly begin: CoreCopy;
  readonly baseTerm: Term;
  readonly baseIndex: LogIndex;
  readonly words: Int32Array;
  /** Words in use. */
  readonly wordCount: number;
  readonly objects: readonly RecordedObject[];
}

/** Inputs, answers, and payloads of configuration changes in hexadecimal. */
export type RecordedObject = CoreInput | CoreAnswer | string;

export interface Recording {
  // The younger segment. What every input needs comes first, close together in memory.
  words: Int32Array;
  /** Where the next word goes. */
  at: number;
  /** From here on an input first asks for room. Invariant: `inputWordsMax` words behind it there is the array's end. */
  checkAt: number;
  /** Of the messages that are written now. */
  term: Term;
  baseIndex: LogIndex;
  baseTerm: Term;
  /** The segment is full from here on. Objects move it towards the beginning. */
  endAt: number;
  /** Absent until the core is open. */
  begin: CoreCopy | undefined;
  objects: RecordedObject[];
  /** Where the cycle that is being written, and the one before it, begin. */
  cycleAt: number;
  previousCycleAt: number;
  /** Words that were not written because their cycles were repetitions. */
  repeatedWords: number;

  /** Words of a segment behind its first state; objects count too. */
  readonly segmentWordsMax: number;
  older: Segment | undefined;
}

/** Words of an input without its entries. */
const inputWordsMax = 8;
/** An idle partition needs no more; a busy one has its whole segment soon. */
const firstWords = 32;
const growthFactor = 4;
/** Longer cycles are not compared. */
const cycleWordsMax = 64;
/** Repetitions in one segment, in words: what is replayed has an end, even if nothing happened for a year. */
const repeatedWordsMax = 1_000_000;
const bytesPerWord = 4;
/** What an object takes, and each run of entries in it: about. */
const objectBytes = 160;
const runBytes = 64;

export function newRecording(bytesMax: number): Recording {
  return {
    words: new Int32Array(firstWords),
    at: 0,
    checkAt: 0,
    term: 0,
    baseIndex: 0,
    baseTerm: 0,
    endAt: 0,
    begin: undefined,
    objects: [],
    cycleAt: 0,
    previousCycleAt: 0,
    repeatedWords: 0,
    segmentWordsMax: Math.floor(bytesMax / 2 / bytesPerWord),
    older: undefined,
  };
}

/** The core is open, or the younger segment is full: another one begins with the state of now. */
export function beginSegment(state: RaftState, recording: Recording): void {
  const { log } = state;
  recording.begin = copyCore(state);
  recording.baseTerm = state.currentTerm;
  recording.term = state.currentTerm;
  recording.baseIndex = log.lastIndex;
  recording.at = 0;
  recording.objects = [];
  recording.repeatedWords = 0;
  recordEntries(recording, log.tail);
  recording.cycleAt = recording.at;
  recording.previousCycleAt = recording.at;
  // A long tail takes long to copy: that is to happen seldom, and there is memory for as much again.
  recording.endAt = recording.at + Math.max(recording.segmentWordsMax, log.tail.length >>> 2);
  makeCheck(recording);
}

/** The same options; what the core draws and what the store tells it is recorded, with the input that asked for it. */
export function recordedConfig(recording: Recording, config: RaftConfig): RaftConfig {
  const { random, storage } = config;
  const drawn = (value: number): number => {
    recordDrawn(recording, value);
    return value;
  };
  return {
    ...config,
    random: { below: (bound) => drawn(random.below(bound)), unit: () => drawn(random.unit()) },
    storage: {
      entries(fromIndex, endIndex, bytesMax) {
        const entries = storage.entries(fromIndex, endIndex, bytesMax);
        if (entries === undefined) put(recording, Code.noEntries);
        else recordEntries(recording, entries);
        return entries;
      },
      snapshot() {
        const snapshot = storage.snapshot();
        recordSnapshot(recording, snapshot);
        return snapshot;
      },
    },
  };
}

/** Any input; the frequent ones have functions of their own. */
export function recordInput(state: RaftState, input: CoreInput): void {
  const { recording } = state;
  if (recording === undefined) return;
  if (recording.at >= recording.checkAt) makeRoom(state, recording);
  putObject(recording, input);
}

/** A tick ends a cycle: one that is the same as the cycle before it becomes a repetition of that. */
export function recordTick(state: RaftState): void {
  const { recording } = state;
  if (recording === undefined) return;
  if (recording.at >= recording.checkAt) makeRoom(state, recording);
  const { words, cycleAt, previousCycleAt } = recording;
  const length = recording.at - cycleAt;
  if (length > 0 && length === cycleAt - previousCycleAt && isRepetition(recording, length)) {
    words[previousCycleAt] = (words[previousCycleAt] as number) + (1 << codeBits);
    recording.at = cycleAt;
    recording.repeatedWords += length;
    if (recording.repeatedWords > repeatedWordsMax) recording.endAt = recording.checkAt = 0;
  } else {
    recording.previousCycleAt = cycleAt;
    recording.cycleAt = recording.at;
  }
  put(recording, Code.tick);
}

/** Objects are never the same: their numbers differ. */
function isRepetition({ words, cycleAt, previousCycleAt }: Recording, length: number): boolean {
  const first = words[previousCycleAt] as number;
  if (length > cycleWordsMax || first >> codeBits === numberMax) return false;
  if ((first & codeMask) !== Code.tick || words[cycleAt] !== Code.tick) return false;
  for (let i = 1; i < length; i++) {
    if (words[previousCycleAt + i] !== words[cycleAt + i]) return false;
  }
  return true;
}

/** An input that has nothing but its code. */
export function recordPlain(
  state: RaftState,
  code: typeof Code.takeReady | typeof Code.advance,
): void {
  const { recording } = state;
  if (recording === undefined) return;
  if (recording.at >= recording.checkAt) makeRoom(state, recording);
  const { words, at } = recording;
  words[at] = code;
  recording.at = at + 1;
}

export function recordPropose(state: RaftState, entries: readonly ProposedEntry[]): void {
  const { recording } = state;
  if (recording === undefined) return;
  if (recording.at >= recording.checkAt) makeRoom(state, recording);
  const { words, at } = recording;
  const first = entries[0];
  const bytes = first === undefined ? 0 : first.end - first.start;
  // Without a branch for each: this is done for every entry there is.
  let unlike = 0;
  for (let i = 0; i < entries.length; i++) {
    const { kind, start, end } = entries[i] as ProposedEntry;
    unlike |= (end - start - bytes) | (kind ^ EntryKind.normal);
  }
  if (unlike !== 0) {
    put(recording, Code.proposeMixed | (entries.length << codeBits));
    putProposed(recording, entries);
    return;
  }
  words[at] = Code.propose | (entries.length << codeBits);
  words[at + 1] = bytes;
  recording.at = at + 2;
}

/** Messages that are not frequent. */
export function recordMessage(state: RaftState, message: Message): void {
  if (state.recording === undefined) return;
  recordInput(state, { kind: 'step', message: hollowMessage(message) });
}

// The frequent messages: each has its own function, and each the same form, because a call or a look at a message of
// unknown shape costs as much as writing it. What does not fit goes the way of those that are not frequent.

export function recordStorageAppended(state: RaftState, message: StorageAppended): void {
  const { recording } = state;
  if (recording === undefined) return;
  if (!isPrepared(recording, message.term) && !tryPrepare(state, recording, message.term)) {
    return recordMessage(state, message);
  }
  const { words, at } = recording;
  const { last, snapshotIndex } = message;
  if (last === undefined || snapshotIndex !== undefined || last.term !== message.term) {
    return recordMessage(state, message);
  }
  const lastIndex = last.index - recording.baseIndex;
  if ((lastIndex | 0) !== lastIndex) return recordMessage(state, message);
  words[at] = Code.storageAppended;
  words[at + 1] = lastIndex;
  recording.at = at + 2;
}

export function recordStorageApplied(state: RaftState, message: StorageApplied): void {
  const { recording } = state;
  if (recording === undefined) return;
  if (recording.at >= recording.checkAt) makeRoom(state, recording);
  const { words, at } = recording;
  const { bytes } = message;
  const index = message.index - recording.baseIndex;
  if ((index | 0) !== index || (bytes | 0) !== bytes) return recordMessage(state, message);
  words[at] = Code.storageApplied;
  words[at + 1] = index;
  words[at + 2] = bytes;
  recording.at = at + 3;
}

export function recordAcknowledgement(state: RaftState, message: AppendEntriesResponse): void {
  const { recording } = state;
  if (recording === undefined) return;
  if (!isPrepared(recording, message.term) && !tryPrepare(state, recording, message.term)) {
    return recordMessage(state, message);
  }
  const { words, at } = recording;
  const { from } = message;
  const index = message.index - recording.baseIndex;
  const isPlain = !message.rejected && (message.hintIndex | message.hintTerm) === 0;
  if (!isPlain || !isForWords(state, from, message.to) || (index | 0) !== index) {
    return recordMessage(state, message);
  }
  words[at] = Code.acknowledgement | (from << codeBits);
  words[at + 1] = index;
  recording.at = at + 2;
}

export function recordHeartbeat(state: RaftState, message: Heartbeat): void {
  const { recording } = state;
  if (recording === undefined) return;
  if (!isPrepared(recording, message.term) && !tryPrepare(state, recording, message.term)) {
    return recordMessage(state, message);
  }
  const { words, at } = recording;
  const { from, readRound: round = noRound } = message;
  const commit = message.leaderCommit - recording.baseIndex;
  if (!isForWords(state, from, message.to) || (commit | 0) !== commit || (round | 0) !== round) {
    return recordMessage(state, message);
  }
  words[at] = Code.heartbeat | (from << codeBits);
  words[at + 1] = commit;
  words[at + 2] = round;
  recording.at = at + 3;
}

export function recordHeartbeatResponse(state: RaftState, message: HeartbeatResponse): void {
  const { recording } = state;
  if (recording === undefined) return;
  if (!isPrepared(recording, message.term) && !tryPrepare(state, recording, message.term)) {
    return recordMessage(state, message);
  }
  const { words, at } = recording;
  const { from, readRound: round = noRound } = message;
  if (!isForWords(state, from, message.to) || (round | 0) !== round) {
    return recordMessage(state, message);
  }
  words[at] = Code.heartbeatResponse | (from << codeBits);
  words[at + 1] = round;
  recording.at = at + 2;
}

export function recordAppend(state: RaftState, message: AppendEntries): void {
  const { recording } = state;
  if (recording === undefined) return;
  const { term, from, entries, prevLogIndex } = message;
  if (!isPrepared(recording, term) && !tryPrepare(state, recording, term)) {
    return recordMessage(state, message);
  }
  const { words, at, baseIndex } = recording;
  const prevIndex = prevLogIndex - baseIndex;
  const commit = message.leaderCommit - baseIndex;
  const isOfWords = (prevIndex | 0) === prevIndex && (commit | 0) === commit;
  if (!isForWords(state, from, message.to) || !isOfWords) return recordMessage(state, message);
  const first = entries[0];
  const bytes = first === undefined ? 0 : first.end - first.start;
  let unlike = message.prevLogTerm - term;
  let index = prevLogIndex;
  for (let i = 0; i < entries.length; i++) {
    const entry = entries[i] as Entry;
    index += 1;
    unlike |= (entry.end - entry.start - bytes) | (entry.kind ^ EntryKind.normal);
    unlike |= (entry.term - term) | (entry.index - index);
  }
  if (unlike !== 0 || bytes < 0) return recordMixedAppend(state, recording, message);
  words[at] = Code.appendEntries | (from << codeBits);
  words[at + 1] = prevIndex;
  words[at + 2] = commit;
  words[at + 3] = entries.length;
  words[at + 4] = bytes;
  recording.at = at + 5;
}

/** An append whose numbers fit, and whose entries are of different sizes or terms. */
function recordMixedAppend(state: RaftState, recording: Recording, message: AppendEntries): void {
  const { at, baseIndex, baseTerm } = recording;
  const { from, entries, prevLogIndex } = message;
  const prevTerm = message.prevLogTerm - baseTerm;
  if (!isWord(prevTerm)) return recordMessage(state, message);
  put(recording, Code.appendMixed | (from << codeBits));
  put(recording, prevLogIndex - baseIndex);
  put(recording, message.leaderCommit - baseIndex);
  put(recording, entries.length);
  put(recording, prevTerm);
  if (tryPutEntries(recording, entries, prevLogIndex + 1)) return;
  recording.at = at;
  recordMessage(state, message);
}

/** There is room, and messages of `term` are what is being written. */
function isPrepared(recording: Recording, term: Term): boolean {
  return recording.at < recording.checkAt && recording.term === term;
}

/** @returns false when the term does not fit */
function tryPrepare(state: RaftState, recording: Recording, term: Term): boolean {
  if (recording.at >= recording.checkAt) makeRoom(state, recording);
  if (recording.term === term) return true;
  const offset = term - recording.baseTerm;
  if (!isWord(offset)) return false;
  put(recording, Code.term);
  put(recording, offset);
  recording.term = term;
  return true;
}

/** The message is for this replica, and the sender's number fits beside the code. */
function isForWords(state: RaftState, from: ReplicaId, to: ReplicaId): boolean {
  return to === state.id && (from & numberMax) === from;
}

function isWord(value: number): boolean {
  return (value | 0) === value;
}

function putProposed(recording: Recording, entries: readonly ProposedEntry[]): void {
  let bytes = 0;
  let count = 0;
  for (const entry of entries) {
    const size = entry.end - entry.start;
    if (size === bytes && entry.kind === EntryKind.normal) {
      count += 1;
      continue;
    }
    if (count > 0) putPair(recording, bytes, count);
    count = 0;
    if (entry.kind === EntryKind.normal) {
      bytes = size;
      count = 1;
    } else {
      putConfChange(recording, entry);
    }
  }
  if (count > 0) putPair(recording, bytes, count);
}

function recordEntries(recording: Recording, entries: readonly Entry[]): void {
  const { at } = recording;
  const firstIndex = entries[0]?.index ?? recording.baseIndex;
  const offset = firstIndex - recording.baseIndex;
  if (isWord(offset) && entries.length <= numberMax) {
    put(recording, Code.entries | (entries.length << codeBits));
    put(recording, offset);
    if (tryPutEntries(recording, entries, firstIndex)) return;
    recording.at = at;
  }
  putObject(recording, { kind: 'entries', entries: runsOf(entries) });
}

/** @returns false when they are not contiguous, or their terms do not fit; what was put is to be taken back */
function tryPutEntries(
  recording: Recording,
  entries: readonly Entry[],
  firstIndex: LogIndex,
): boolean {
  let term = recording.baseTerm;
  let bytes = 0;
  let count = 0;
  for (let i = 0; i < entries.length; i++) {
    const entry = entries[i] as Entry;
    const size = entry.end - entry.start;
    if (entry.index !== firstIndex + i || !isWord(size) || size < 0) return false;
    if (size === bytes && entry.term === term && entry.kind === EntryKind.normal) {
      count += 1;
      continue;
    }
    if (count > 0) putPair(recording, bytes, count);
    count = 0;
    if (entry.term !== term) {
      term = entry.term;
      if (!isWord(term - recording.baseTerm)) return false;
      putPair(recording, Mark.term, term - recording.baseTerm);
    }
    if (entry.kind === EntryKind.normal) {
      bytes = size;
      count = 1;
    } else {
      putConfChange(recording, entry);
    }
  }
  if (count > 0) putPair(recording, bytes, count);
  return true;
}

function putConfChange(recording: Recording, { bytes, start, end }: ProposedEntry): void {
  putPair(recording, Mark.confChange, recording.objects.length);
  noteObject(recording, hexOf(bytes.subarray(start, end)));
}

function recordDrawn(recording: Recording, value: number): void {
  if ((value & numberMax) === value) put(recording, Code.drawn | (value << codeBits));
  else putObject(recording, { kind: 'drawn', value });
}

function recordSnapshot(recording: Recording, snapshot: Snapshot | undefined): void {
  if (snapshot === undefined) put(recording, Code.noSnapshot);
  else putObject(recording, { kind: 'snapshot', snapshot: hollowSnapshot(snapshot) });
}

/** An input begins: there is room for it, in this segment or in the next one. */
function makeRoom(state: RaftState, recording: Recording): void {
  if (recording.at >= recording.endAt) beginNextSegment(state, recording);
  while (recording.at + inputWordsMax > recording.words.length) grow(recording);
  makeCheck(recording);
}

function makeCheck(recording: Recording): void {
  recording.checkAt = Math.min(recording.endAt, recording.words.length - inputWordsMax);
}

function beginNextSegment(state: RaftState, recording: Recording): void {
  const spare = recording.older?.words;
  recording.older = youngerSegment(recording);
  const isSpare = spare !== undefined && spare.length <= 2 * recording.segmentWordsMax;
  recording.words = isSpare ? spare : new Int32Array(firstWords);
  beginSegment(state, recording);
}

export function youngerSegment(recording: Recording): Segment {
  const { begin, baseTerm, baseIndex, words, at: wordCount, objects } = recording;
  const known = must(begin, 'a core that is open has begun to record');
  return { begin: known, baseTerm, baseIndex, words, wordCount, objects };
}

function put(recording: Recording, word: number): void {
  if (recording.at === recording.words.length) grow(recording);
  recording.words[recording.at] = word;
  recording.at += 1;
}

function putPair(recording: Recording, first: number, second: number): void {
  put(recording, first);
  put(recording, second);
}

function putObject(recording: Recording, object: CoreInput | CoreAnswer): void {
  put(recording, Code.object | (recording.objects.length << codeBits));
  noteObject(recording, object);
}

/** What an object weighs is taken from the room for words. */
function noteObject(recording: Recording, object: RecordedObject): void {
  recording.objects.push(object);
  recording.endAt -= Math.ceil(bytesOfObject(object) / bytesPerWord);
  makeCheck(recording);
}

function bytesOfObject(object: RecordedObject): number {
  if (typeof object === 'string') return objectBytes + object.length;
  if ('entries' in object) return objectBytes + runBytes * (object.entries?.length ?? 0);
  const isAppend = object.kind === 'step' && object.message.type === 'appendEntries';
  return objectBytes + (isAppend ? runBytes * object.message.entries.length : 0);
}

/** Several times as much, but not far beyond the segment's end, which most segments reach. */
function grow(recording: Recording): void {
  const { words, endAt } = recording;
  const full = endAt + inputWordsMax;
  const larger = words.length * growthFactor;
  const grown = new Int32Array(full > words.length ? Math.min(larger, full) : larger);
  grown.set(words);
  recording.words = grown;
}

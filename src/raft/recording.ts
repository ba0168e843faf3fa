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
  /** Messages. Number: the sender. */
  appendEntries: 3,
  acknowledgement: 4,
  heartbeat: 5,
  heartbeatResponse: 6,
  storageAppended: 7,
  storageApplied: 8,
  /** Number: the count of entries, whose sizes follow. */
  propose: 9,
  /** Number: which of the objects it is, an input or an answer. */
  object: 10,
  /** Answers. Number: what was drawn; the count of entries. */
  drawn: 11,
  entries: 12,
  noEntries: 13,
  noSnapshot: 14,
} as const;
export const codeBits = 4;
export const codeMask = 0xf;
const numberMax = 0x7ff_ffff;

/**
 * Entries are pairs: a payload's size and how many entries in a row have it. In place of a size: the term of what
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
  /** Words of a segment behind its first state; objects count too. */
  readonly segmentWordsMax: number;
  older: Segment | undefined;

  // The younger segment.
  /** Absent until the core is open. */
  begin: CoreCopy | undefined;
  baseTerm: Term;
  baseIndex: LogIndex;
  words: Int32Array;
  /** Where the next word goes. */
  at: number;
  /** The segment is full from here on. Objects move it towards the beginning. */
  endAt: number;
  /** From here on an input first asks for room. Invariant: `inputWordsMax` words behind it there is the array's end. */
  checkAt: number;
  objects: RecordedObject[];
  /** Where the cycle that is being written, and the one before it, begin. */
  cycleAt: number;
  previousCycleAt: number;
  /** Words that were not written because their cycles were repetitions. */
  repeatedWords: number;
}

/** Words of an input without its entries. */
const inputWordsMax = 8;
const firstWords = 32;
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
    segmentWordsMax: Math.floor(bytesMax / 2 / bytesPerWord),
    older: undefined,
    begin: undefined,
    baseTerm: 0,
    baseIndex: 0,
    words: new Int32Array(firstWords),
    at: 0,
    endAt: 0,
    checkAt: 0,
    objects: [],
    cycleAt: 0,
    previousCycleAt: 0,
    repeatedWords: 0,
  };
}

/** The core is open, or the younger segment is full: another one begins with the state of now. */
export function beginSegment(state: RaftState, recording: Recording): void {
  const { log } = state;
  recording.begin = copyCore(state);
  recording.baseTerm = state.currentTerm;
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
  put(recording, Code.propose | (entries.length << codeBits));
  let bytes = 0;
  let count = 0;
  for (let i = 0; i < entries.length; i++) {
    const entry = entries[i] as ProposedEntry;
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

/** Messages that are not frequent. */
export function recordMessage(state: RaftState, message: Message): void {
  if (state.recording === undefined) return;
  recordInput(state, { kind: 'step', message: hollowMessage(message) });
}

export function recordStorageAppended(state: RaftState, message: StorageAppended): void {
  const { recording } = state;
  if (recording === undefined) return;
  if (recording.at >= recording.checkAt) makeRoom(state, recording);
  const { last, snapshotIndex } = message;
  if (last === undefined || snapshotIndex !== undefined) return recordMessage(state, message);
  const { words, at, baseTerm, baseIndex } = recording;
  const term = message.term - baseTerm;
  const lastIndex = last.index - baseIndex;
  const lastTerm = last.term - baseTerm;
  if ((term | 0) !== term || (lastIndex | 0) !== lastIndex || (lastTerm | 0) !== lastTerm) {
    return recordMessage(state, message);
  }
  words[at] = Code.storageAppended;
  words[at + 1] = term;
  words[at + 2] = lastIndex;
  words[at + 3] = lastTerm;
  recording.at = at + 4;
}

export function recordStorageApplied(state: RaftState, message: StorageApplied): void {
  const { recording } = state;
  if (recording === undefined) return;
  if (recording.at >= recording.checkAt) makeRoom(state, recording);
  const { bytes } = message;
  const { words, at, baseIndex } = recording;
  const index = message.index - baseIndex;
  if ((index | 0) !== index || (bytes | 0) !== bytes) return recordMessage(state, message);
  words[at] = Code.storageApplied;
  words[at + 1] = index;
  words[at + 2] = bytes;
  recording.at = at + 3;
}

export function recordAcknowledgement(state: RaftState, message: AppendEntriesResponse): void {
  const { recording } = state;
  if (recording === undefined) return;
  if (recording.at >= recording.checkAt) makeRoom(state, recording);
  const { from } = message;
  const { words, at, baseTerm, baseIndex } = recording;
  const term = message.term - baseTerm;
  const index = message.index - baseIndex;
  if (
    message.rejected ||
    message.hintIndex !== 0 ||
    message.hintTerm !== 0 ||
    message.to !== state.id ||
    (from & numberMax) !== from ||
    (term | 0) !== term ||
    (index | 0) !== index
  ) {
    return recordMessage(state, message);
  }
  words[at] = Code.acknowledgement | (from << codeBits);
  words[at + 1] = term;
  words[at + 2] = index;
  recording.at = at + 3;
}

export function recordHeartbeat(state: RaftState, message: Heartbeat): void {
  const { recording } = state;
  if (recording === undefined) return;
  if (recording.at >= recording.checkAt) makeRoom(state, recording);
  const { from, readRound: round = noRound } = message;
  const { words, at, baseTerm, baseIndex } = recording;
  const term = message.term - baseTerm;
  const commit = message.leaderCommit - baseIndex;
  if (
    message.to !== state.id ||
    (from & numberMax) !== from ||
    (term | 0) !== term ||
    (commit | 0) !== commit ||
    (round | 0) !== round
  ) {
    return recordMessage(state, message);
  }
  words[at] = Code.heartbeat | (from << codeBits);
  words[at + 1] = term;
  words[at + 2] = commit;
  words[at + 3] = round;
  recording.at = at + 4;
}

export function recordHeartbeatResponse(state: RaftState, message: HeartbeatResponse): void {
  const { recording } = state;
  if (recording === undefined) return;
  if (recording.at >= recording.checkAt) makeRoom(state, recording);
  const { from, readRound: round = noRound } = message;
  const { words, at, baseTerm } = recording;
  const term = message.term - baseTerm;
  if (
    message.to !== state.id ||
    (from & numberMax) !== from ||
    (term | 0) !== term ||
    (round | 0) !== round
  ) {
    return recordMessage(state, message);
  }
  words[at] = Code.heartbeatResponse | (from << codeBits);
  words[at + 1] = term;
  words[at + 2] = round;
  recording.at = at + 3;
}

export function recordAppend(state: RaftState, message: AppendEntries): void {
  const { recording } = state;
  if (recording === undefined) return;
  if (recording.at >= recording.checkAt) makeRoom(state, recording);
  const { words, at, baseTerm, baseIndex } = recording;
  const { entries, prevLogIndex, from } = message;
  const term = message.term - baseTerm;
  const prevIndex = prevLogIndex - baseIndex;
  const prevTerm = message.prevLogTerm - baseTerm;
  const commit = message.leaderCommit - baseIndex;
  if (
    message.to !== state.id ||
    (from & numberMax) !== from ||
    (term | 0) !== term ||
    (prevIndex | 0) !== prevIndex ||
    (prevTerm | 0) !== prevTerm ||
    (commit | 0) !== commit
  ) {
    return recordMessage(state, message);
  }
  words[at] = Code.appendEntries | (from << codeBits);
  words[at + 1] = term;
  words[at + 2] = prevIndex;
  words[at + 3] = prevTerm;
  words[at + 4] = commit;
  words[at + 5] = entries.length;
  recording.at = at + 6;
  if (entries.length === 0 || tryPutEntries(recording, entries, prevLogIndex + 1)) return;
  recording.at = at;
  recordMessage(state, message);
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
function isWord(value: number): boolean {
  return (value | 0) === value;
}

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
    if (entry.index !== firstIndex + i) return false;
    const size = entry.end - entry.start;
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

/** To twice its size, but not far beyond the segment's end, which most segments reach. */
function grow(recording: Recording): void {
  const { words, endAt } = recording;
  const full = endAt + inputWordsMax;
  const doubled = words.length * 2;
  const grown = new Int32Array(full > words.length ? Math.min(doubled, full) : doubled);
  grown.set(words);
  recording.words = grown;
}

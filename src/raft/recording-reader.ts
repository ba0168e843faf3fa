// Reads back what `recording.ts` wrote: the state at the beginning, every input since then with the answers that the
// core got during it, and the state of now, as plain JSON values.

import { assert, must } from '../base/assert.ts';
import type { CoreAnswer, CoreInput } from './core-input.ts';
import { type CoreConfig, type CoreState, coreConfigOf, coreStateOf } from './core-state.ts';
import type { EntryRun, HollowMessage, ProposedRun } from './hollow.ts';
import {
  Code,
  codeBits,
  codeMask,
  Mark,
  noRound,
  type RecordedObject,
  type Recording,
  type Segment,
  youngerSegment,
} from './recording.ts';
import type { RaftState } from './state.ts';
import type { ReplicaId, Term } from './types.ts';

/** One input, and what the core was told while it worked on it. */
export interface RecordedStep {
  readonly input: CoreInput;
  /** Absent when it asked for nothing. */
  readonly answers?: readonly CoreAnswer[];
}

/** Inputs in a row, mostly from one tick to the next, that came so many times. */
export interface RecordedCycle {
  readonly times: number;
  readonly steps: readonly RecordedStep[];
}

/** All that a replay needs, and where it must end. */
export interface CoreRecord {
  readonly config: CoreConfig;
  readonly begin: CoreState;
  /** Oldest first. */
  readonly cycles: readonly RecordedCycle[];
  readonly end: CoreState;
}

/** What is recorded of a core. @returns undefined when nothing is */
export function recordOf(state: RaftState): CoreRecord | undefined {
  const { recording } = state;
  if (recording === undefined) return undefined;
  const segments = segmentsOf(recording).map((segment) => readSegment(segment, state.id));
  const first = must(segments[0], 'there is a segment');
  return {
    config: coreConfigOf(state.config),
    begin: first.begin,
    cycles: segments.flatMap(({ cycles }) => cycles),
    end: coreStateOf(state),
  };
}

function segmentsOf(recording: Recording): Segment[] {
  const younger = youngerSegment(recording);
  return recording.older === undefined ? [younger] : [recording.older, younger];
}

interface Reader {
  readonly segment: Segment;
  readonly id: ReplicaId;
  at: number;
  /** Of the messages that are read now. */
  term: Term;
}

function readSegment(
  segment: Segment,
  id: ReplicaId,
): { readonly begin: CoreState; readonly cycles: readonly RecordedCycle[] } {
  const reader: Reader = { segment, id, at: 0, term: segment.baseTerm };
  const tail = readAnswer(reader);
  assert(tail?.kind === 'entries', 'a segment begins with the entries in memory');
  const cycles: RecordedCycle[] = [];
  while (hasMore(reader)) cycles.push(readCycle(reader));
  return { begin: { ...segment.begin, tail: tail.entries ?? [] }, cycles };
}

function readCycle(reader: Reader): RecordedCycle {
  const first = peek(reader);
  const repetitions = (first & codeMask) === Code.tick ? first >> codeBits : 0;
  const steps: RecordedStep[] = [];
  do {
    if (peek(reader) === Code.term) {
      // The message for which it was written may stand in the next segment.
      next(reader);
      reader.term = nextTerm(reader);
    } else {
      steps.push(readStep(reader));
    }
  } while (hasMore(reader) && (peek(reader) & codeMask) !== Code.tick);
  return { times: 1 + repetitions, steps };
}

function hasMore(reader: Reader): boolean {
  return reader.at < reader.segment.wordCount;
}

function readStep(reader: Reader): RecordedStep {
  const input = readInput(reader);
  const answers: CoreAnswer[] = [];
  while (hasMore(reader)) {
    const answer = readAnswer(reader);
    if (answer === undefined) break;
    answers.push(answer);
  }
  return answers.length === 0 ? { input } : { input, answers };
}

function readInput(reader: Reader): CoreInput {
  const first = next(reader);
  const number = first >> codeBits;
  switch (first & codeMask) {
    case Code.tick:
      return { kind: 'tick' };
    case Code.takeReady:
      return { kind: 'takeReady' };
    case Code.advance:
      return { kind: 'advance' };
    case Code.propose:
      return { kind: 'propose', entries: runsOf(next(reader), number) };
    case Code.proposeMixed:
      return { kind: 'propose', entries: readProposed(reader, number) };
    case Code.object: {
      const object = objectAt(reader, number);
      assert(!isAnswer(object), 'an answer follows an input');
      return object;
    }
    default:
      return { kind: 'step', message: readMessage(reader, first & codeMask, number) };
  }
}

function readMessage(reader: Reader, code: number, from: ReplicaId): HollowMessage {
  const { id: to, term } = reader;
  switch (code) {
    case Code.appendEntries:
    case Code.appendMixed: {
      const prevLogIndex = nextIndex(reader);
      const leaderCommit = nextIndex(reader);
      const count = next(reader);
      const isMixed = code === Code.appendMixed;
      const prevLogTerm = isMixed ? nextTerm(reader) : term;
      const index = prevLogIndex + 1;
      const entries = isMixed
        ? readEntries(reader, index, count)
        : runsOf(next(reader), count).map((run) => ({ index, term, ...run }));
      const envelope = { type: 'appendEntries', from, to, term } as const;
      return { ...envelope, prevLogIndex, prevLogTerm, entries, leaderCommit };
    }
    case Code.acknowledgement: {
      const envelope = { type: 'appendEntriesResponse', from, to, term } as const;
      const index = nextIndex(reader);
      return { ...envelope, index, rejected: false, hintIndex: 0, hintTerm: 0 };
    }
    case Code.heartbeat: {
      const leaderCommit = nextIndex(reader);
      return { type: 'heartbeat', from, to, term, leaderCommit, readRound: nextRound(reader) };
    }
    case Code.heartbeatResponse:
      return { type: 'heartbeatResponse', from, to, term, readRound: nextRound(reader) };
    case Code.storageAppended: {
      const last = { index: nextIndex(reader), term };
      return { type: 'storageAppended', term, last, snapshotIndex: undefined };
    }
    default: {
      assert(code === Code.storageApplied, 'every code of a message is read');
      const index = nextIndex(reader);
      return { type: 'storageApplied', index, bytes: next(reader) };
    }
  }
}

/** @returns undefined, and goes no further, when the next thing is no answer */
function readAnswer(reader: Reader): CoreAnswer | undefined {
  const { at } = reader;
  const first = next(reader);
  const number = first >> codeBits;
  switch (first & codeMask) {
    case Code.drawn:
      return { kind: 'drawn', value: number };
    case Code.noEntries:
      return { kind: 'entries', entries: undefined };
    case Code.noSnapshot:
      return { kind: 'snapshot', snapshot: undefined };
    case Code.entries:
      return { kind: 'entries', entries: readEntries(reader, nextIndex(reader), number) };
    case Code.object: {
      const object = objectAt(reader, number);
      if (isAnswer(object)) return object;
      break;
    }
    default:
      break;
  }
  reader.at = at;
  return undefined;
}

function readEntries(reader: Reader, firstIndex: number, count: number): EntryRun[] {
  const { baseTerm } = reader.segment;
  const runs: EntryRun[] = [];
  let term = baseTerm;
  let index = firstIndex;
  while (index < firstIndex + count) {
    const size = next(reader);
    const value = next(reader);
    if (size === Mark.term) {
      term = baseTerm + value;
      continue;
    }
    const run =
      size === Mark.confChange ? confChangeRun(reader, value) : { bytes: size, count: value };
    runs.push({ index, term, ...run });
    index += run.count;
  }
  return runs;
}

function readProposed(reader: Reader, count: number): ProposedRun[] {
  const runs: ProposedRun[] = [];
  for (let done = 0; done < count; ) {
    const size = next(reader);
    const value = next(reader);
    const run =
      size === Mark.confChange ? confChangeRun(reader, value) : { bytes: size, count: value };
    runs.push(run);
    done += run.count;
  }
  return runs;
}

function runsOf(bytes: number, count: number): ProposedRun[] {
  return count === 0 ? [] : [{ bytes, count }];
}

function confChangeRun(reader: Reader, number: number): ProposedRun {
  const confChange = reader.segment.objects[number];
  assert(typeof confChange === 'string', 'a configuration change is kept as text');
  return { bytes: confChange.length / 2, count: 1, confChange };
}

function objectAt(reader: Reader, number: number): CoreInput | CoreAnswer {
  const object = must(reader.segment.objects[number], 'what words name is there');
  assert(typeof object !== 'string', 'an input or an answer is no payload');
  return object;
}

function isAnswer(object: Exclude<RecordedObject, string>): object is CoreAnswer {
  return object.kind === 'drawn' || object.kind === 'entries' || object.kind === 'snapshot';
}

function peek({ segment, at }: Reader): number {
  return must(segment.words[at], 'an input is whole');
}

function next(reader: Reader): number {
  const word = peek(reader);
  reader.at += 1;
  return word;
}

function nextTerm(reader: Reader): number {
  return reader.segment.baseTerm + next(reader);
}

function nextIndex(reader: Reader): number {
  return reader.segment.baseIndex + next(reader);
}

function nextRound(reader: Reader): number | undefined {
  const round = next(reader);
  return round === noRound ? undefined : round;
}

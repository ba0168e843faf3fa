// Messages and entries without their payloads, as plain JSON values: what a recording of a core keeps. The core never
// looks into the payload of a normal entry, only at its length; of a configuration change it does, so those are kept,
// as hexadecimal text. Of a snapshot the state machine's state is left out.

import { assert } from '../base/assert.ts';
import {
  type AppendEntries,
  type Entry,
  EntryKind,
  type InstallSnapshot,
  type LogIndex,
  type Message,
  type ProposedEntry,
  proposedEntry,
  type Snapshot,
  type Term,
} from './types.ts';

/** Proposed entries with `bytes` of payload each: `count` normal ones, or one configuration change. */
export interface ProposedRun {
  readonly bytes: number;
  readonly count: number;
  /** The change's payload, in hexadecimal. */
  readonly confChange?: string;
}

/** Contiguous entries of one term, from `index` on. */
export interface EntryRun extends ProposedRun {
  readonly index: LogIndex;
  readonly term: Term;
}

/** A snapshot without the state machine's state. */
export type HollowSnapshot = Omit<Snapshot, 'data'>;

export type HollowInstallSnapshot = Omit<InstallSnapshot, 'snapshot'> & {
  readonly snapshot: HollowSnapshot;
};

/** A message without payloads. */
export type HollowMessage =
  | Exclude<Message, AppendEntries | InstallSnapshot>
  | (Omit<AppendEntries, 'entries'> & { readonly entries: readonly EntryRun[] })
  | HollowInstallSnapshot;

export function hollowMessage(message: Message): HollowMessage {
  switch (message.type) {
    case 'appendEntries':
      return { ...message, entries: runsOf(message.entries) };
    case 'installSnapshot':
      return hollowInstallSnapshot(message);
    default:
      return message;
  }
}

export function hollowInstallSnapshot(message: InstallSnapshot): HollowInstallSnapshot {
  return { ...message, snapshot: hollowSnapshot(message.snapshot) };
}

export function hollowSnapshot({ index, term, confState }: Snapshot): HollowSnapshot {
  return { index, term, confState };
}

/** The message again, with payloads that are only as long as they were; a snapshot has an empty one. */
export function filledMessage(message: HollowMessage): Message {
  switch (message.type) {
    case 'appendEntries':
      return { ...message, entries: entriesOf(message.entries) };
    case 'installSnapshot':
      return filledInstallSnapshot(message);
    default:
      return message;
  }
}

export function filledInstallSnapshot(message: HollowInstallSnapshot): InstallSnapshot {
  return { ...message, snapshot: filledSnapshot(message.snapshot) };
}

export function filledSnapshot({ index, term, confState }: HollowSnapshot): Snapshot {
  return { index, term, confState, data: noBytes };
}

const noBytes = new Uint8Array(0);

/** Any entries, also such that no log could hold: what is recorded may be what is wrong. */
export function runsOf(entries: readonly Entry[]): EntryRun[] {
  const runs: EntryRun[] = [];
  for (const entry of entries) {
    const { index, term } = entry;
    const run = proposedRunOf(entry);
    const last = runs.at(-1);
    const isNext = last !== undefined && index === last.index + last.count && term === last.term;
    if (isNext && isAlike(last, run)) runs[runs.length - 1] = { ...last, count: last.count + 1 };
    else runs.push({ index, term, ...run });
  }
  return runs;
}

export function entriesOf(runs: readonly EntryRun[]): Entry[] {
  const entries: Entry[] = [];
  for (const run of runs) {
    const proposed = hollowEntry(run);
    for (let i = 0; i < run.count; i++) {
      entries.push({ ...proposed, index: run.index + i, term: run.term });
    }
  }
  return entries;
}

export function proposedEntriesOf(runs: readonly ProposedRun[]): ProposedEntry[] {
  return runs.flatMap((run) => new Array<ProposedEntry>(run.count).fill(hollowEntry(run)));
}

function proposedRunOf({ kind, bytes, start, end }: ProposedEntry): ProposedRun {
  const run = { bytes: end - start, count: 1 };
  if (kind === EntryKind.normal) return run;
  return { ...run, confChange: hexOf(bytes.subarray(start, end)) };
}

function isAlike(run: ProposedRun, next: ProposedRun): boolean {
  const isNormal = run.confChange === undefined && next.confChange === undefined;
  return isNormal && run.bytes === next.bytes;
}

function hollowEntry({ bytes, confChange }: ProposedRun): ProposedEntry {
  if (confChange !== undefined) return proposedEntry(EntryKind.confChange, bytesOf(confChange));
  return { kind: EntryKind.normal, bytes: noBytes, start: 0, end: bytes };
}

export function hexOf(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

export function bytesOf(hex: string): Uint8Array {
  assert(/^(?:[0-9a-f]{2})*$/.test(hex), 'bytes are pairs of hexadecimal digits');
  return Uint8Array.from(hex.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}

// What the state machines of one partition are given, over all replicas and lives: one sequence of entries, the same for
// everybody, none twice and none left out (state machine safety, Figure 3). A hash chain over it travels in snapshots,
// so that a state that came in one is compared too.

import { inspect, isDeepStrictEqual } from 'node:util';
import { crc32 } from 'node:zlib';
import { utf8Bytes } from '../../base/bytes.ts';
import type { CommittedEntry } from '../../ports/state-machine.ts';
import type { PartitionId } from '../../ports/wal.ts';
import type { LogIndex, Term } from '../../raft/types.ts';
import { ViolationError } from './violation.ts';

/** A place in the sequence: the last entry that was given, and the hash of all up to it. */
export interface AppliedPlace {
  readonly index: LogIndex;
  readonly chain: number;
}

export const appliedNothing: AppliedPlace = { index: 0, chain: 0 };

interface AppliedEntry {
  readonly term: Term;
  readonly chain: number;
  /** The entry that was given before it. */
  readonly after: LogIndex;
  /** Type and data, for writes whose data comes once. */
  readonly content: string;
  /** When it was first given to a state machine, in the order of the clients' calls. */
  readonly moment: number;
  /** What that state machine returned for it, once it has. */
  result: unknown;
  isAnswered: boolean;
}

export interface AppliedOrder {
  readonly partitionId: PartitionId;
  readonly entries: Map<LogIndex, AppliedEntry>;
  /** The entry that comes after the key. */
  readonly next: Map<LogIndex, LogIndex>;
  /** Checksums of the states that machines gave, or wrote to their disks, by the last entry in them. */
  readonly states: Map<LogIndex, number>;
}

export function newAppliedOrder(partitionId: PartitionId): AppliedOrder {
  return { partitionId, entries: new Map(), next: new Map(), states: new Map() };
}

export function contentOf(type: string, data: Uint8Array): string {
  return `${type} ${Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString('latin1')}`;
}

/** A replica at `place` is given `entry` at `moment`. @returns its new place */
export function noteApplied(
  order: AppliedOrder,
  place: AppliedPlace,
  entry: CommittedEntry,
  moment: number,
): AppliedPlace {
  const { index, term, type, data, timestamp } = entry;
  const rule = 'State machine safety: every replica is given the same entries in the same order';
  const broken = (what: string): ViolationError =>
    new ViolationError(rule, what, order.partitionId);
  if (index <= place.index) throw broken(`entry ${index} was given after entry ${place.index}`);
  const head = crc32(utf8Bytes(`${index} ${term} ${timestamp} ${type}`), place.chain);
  const chain = crc32(data, head);
  const known = order.entries.get(index);
  const next = order.next.get(place.index);
  if (next !== undefined && next !== index) {
    throw broken(`behind entry ${place.index} one replica was given ${next}, another ${index}`);
  }
  if (known === undefined) {
    order.entries.set(index, {
      term,
      chain,
      after: place.index,
      content: contentOf(type, data),
      moment,
      result: undefined,
      isAnswered: false,
    });
  } else if (known.after !== place.index) {
    throw broken(`before entry ${index} one replica had ${known.after}, another ${place.index}`);
  } else if (known.term !== term || known.chain !== chain) {
    throw broken(`entry ${index} is of term ${known.term} here and ${term} there, or other data`);
  }
  order.next.set(place.index, index);
  return { index, chain };
}

/** Where the sequence ends, or how far it goes up to an index. */
export function lastPlace(
  order: AppliedOrder,
  throughIndex: LogIndex = Number.POSITIVE_INFINITY,
): AppliedPlace {
  let place = appliedNothing;
  for (const [index, { chain }] of order.entries) {
    if (index > place.index && index <= throughIndex) place = { index, chain };
  }
  return place;
}

/** A replica has this state behind the entry at `index`. */
export function noteState(order: AppliedOrder, index: LogIndex, state: Uint8Array): void {
  const checksum = crc32(state);
  const known = order.states.get(index);
  if (known === undefined) order.states.set(index, checksum);
  if ((known ?? checksum) === checksum) return;
  throw new ViolationError(
    'All replicas that have applied the same have the same state',
    `behind entry ${index} they have not: ${Buffer.from(state).toString('latin1').slice(0, 400)}`,
    order.partitionId,
  );
}

/** What a state machine returned for entries: the first answer is kept. */
export function noteResults(
  order: AppliedOrder,
  entries: readonly CommittedEntry[],
  results: readonly unknown[] | void,
): void {
  for (const [place, { index }] of entries.entries()) {
    const applied = order.entries.get(index);
    if (applied === undefined) continue;
    const result: unknown = results?.[place];
    if (applied.isAnswered) {
      checkSameResult(order, index, [applied.result, result]);
      continue;
    }
    applied.isAnswered = true;
    applied.result = result;
  }
}

function checkSameResult(
  order: AppliedOrder,
  index: LogIndex,
  [first, second]: readonly [unknown, unknown],
): void {
  if (first === second || isDeepStrictEqual(first, second)) return;
  throw new ViolationError(
    'A state machine answers an entry by nothing but the entries and its state: the same on every replica',
    `for entry ${index} one replica returned ${inspect(first)}, another ${inspect(second)}`,
    order.partitionId,
  );
}

/** A replica takes over a state that was taken at `place`. */
export function noteRestored(order: AppliedOrder, place: AppliedPlace): void {
  if (place.index === 0) return;
  const known = order.entries.get(place.index);
  if (known?.chain === place.chain) return;
  throw new ViolationError(
    'State machine safety: a snapshot is the state that the entries before it make',
    `the snapshot ends with entry ${place.index}, which no replica was given like that`,
    order.partitionId,
  );
}

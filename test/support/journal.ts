// A state machine that forgets nothing: it keeps every entry that it was given and checks by itself that they come in
// order and once. Its snapshot is the whole list, so that replicas can be compared over crashes, restarts and snapshots.

import { assert } from '../../src/base/assert.ts';
import { utf8Bytes, utf8Text } from '../../src/base/bytes.ts';
import type { CommittedEntry, SnapshotData, StateMachine } from '../../src/ports/state-machine.ts';

export interface JournalEntry {
  readonly index: number;
  readonly term: number;
  readonly type: string;
  readonly text: string;
}

export interface Journal extends Required<Pick<StateMachine, 'snapshot' | 'restore'>> {
  readonly apply: StateMachine['apply'];
  /** Everything that took effect, in order. */
  readonly entries: readonly JournalEntry[];
  /** The entries that this very object was given one by one, and whether they came as restored. */
  readonly given: readonly (JournalEntry & { readonly restored: boolean })[];
  /** Sizes of the batches that it was given. */
  readonly batches: readonly number[];
  readonly restoreCount: number;
}

/** Returns `<index>:<text>` for every entry. */
export function journal(): Journal {
  let entries: JournalEntry[] = [];
  const given: (JournalEntry & { restored: boolean })[] = [];
  const batches: number[] = [];
  let restoreCount = 0;
  return {
    apply(batch: readonly CommittedEntry[]) {
      batches.push(batch.length);
      return batch.map((entry) => {
        const { index, term, type, data, restored } = entry;
        const one = { index, term, type, text: utf8Text(data) };
        assert(index > (entries.at(-1)?.index ?? 0), 'entries come in order, and none twice');
        entries.push(one);
        given.push({ ...one, restored });
        return `${index}:${one.text}`;
      });
    },
    snapshot: () => utf8Bytes(JSON.stringify(entries)),
    async restore(data: SnapshotData) {
      restoreCount += 1;
      entries = JSON.parse(utf8Text(await data.bytes())) as JournalEntry[];
    },
    get entries() {
      return entries;
    },
    given,
    batches,
    get restoreCount() {
      return restoreCount;
    },
  };
}

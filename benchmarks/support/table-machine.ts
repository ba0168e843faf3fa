// A state machine with a large state: a table of slots of equal size, in blocks. Its snapshot is of one moment while
// entries go on being applied: a block that the snapshot has not given yet is copied before it is changed.

import { crc32 } from 'node:zlib';
import { assert } from '../../src/base/assert.ts';
import type { CommittedEntry, SnapshotData, StateMachine } from '../../src/index.ts';

/** Bytes of an entry's data: the number of the slot, and what comes into it. */
const tableEntryBytes = 64;
const slotBytes = tableEntryBytes - 4;
const slotsPerBlock = 1_024;
const blockBytes = slotBytes * slotsPerBlock;

/** What happened to the state, on the process's monotonic clock. */
export interface TableRestore {
  readonly startedMs: number;
  readonly endedMs: number;
}

export class TableMachine implements StateMachine {
  readonly concurrentSnapshots = true;
  readonly restores: TableRestore[] = [];
  appliedCount = 0;
  #blocks: Uint8Array[];
  /** Blocks that a snapshot shows and that are not to be changed. */
  readonly #shown: Set<Uint8Array> = new Set();

  constructor(byteLength: number) {
    this.#blocks = Array.from({ length: Math.ceil(byteLength / blockBytes) }, (_, at) =>
      new Uint8Array(blockBytes).fill(at),
    );
  }

  get byteLength(): number {
    return this.#blocks.length * blockBytes;
  }

  apply(entries: readonly CommittedEntry[]): void {
    this.appliedCount += entries.length;
    for (const { data } of entries) {
      const slot = new DataView(data.buffer, data.byteOffset).getUint32(0);
      const at = Math.floor(slot / slotsPerBlock) % this.#blocks.length;
      this.#changeable(at).set(data.subarray(4), (slot % slotsPerBlock) * slotBytes);
    }
  }

  *snapshot(): Generator<Uint8Array, undefined> {
    const blocks = [...this.#blocks];
    for (const block of blocks) this.#shown.add(block);
    try {
      for (const block of blocks) {
        yield block;
        this.#shown.delete(block);
      }
    } finally {
      this.#shown.clear();
    }
  }

  async restore(data: SnapshotData): Promise<void> {
    const startedMs = performance.now();
    assert(data.byteLength === this.byteLength, 'all replicas have a table of one size');
    const blocks: Uint8Array[] = [];
    let block = new Uint8Array(blockBytes);
    let filledBytes = 0;
    for await (const piece of data) {
      for (let at = 0; at < piece.byteLength; ) {
        const part = piece.subarray(at, at + blockBytes - filledBytes);
        block.set(part, filledBytes);
        filledBytes += part.byteLength;
        at += part.byteLength;
        if (filledBytes < blockBytes) continue;
        blocks.push(block);
        block = new Uint8Array(blockBytes);
        filledBytes = 0;
      }
    }
    this.#blocks = blocks;
    this.restores.push({ startedMs, endedMs: performance.now() });
  }

  /** Equal for equal states. */
  checksum(): number {
    return this.#blocks.reduce((checksum, block) => crc32(block, checksum), 0);
  }

  #changeable(at: number): Uint8Array {
    const block = this.#blocks[at] as Uint8Array;
    if (!this.#shown.has(block)) return block;
    const copy = block.slice();
    this.#blocks[at] = copy;
    return copy;
  }
}

/** The data of write `number`: each goes into another slot than the one before it. */
export function tableEntry(number: number): Uint8Array {
  const data = new Uint8Array(tableEntryBytes).fill(number);
  new DataView(data.buffer).setUint32(0, Math.imul(number, 0x9e37_79b1) >>> 0);
  return data;
}

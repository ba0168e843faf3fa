// The keys of one partition in ascending order, for listings that cost what they return and not what is stored. Keys
// live in blocks of bounded size: an insertion moves at most one block. Order is that of JavaScript strings (UTF-16
// code units).

import { assert } from '../base/assert.ts';

/** Keys in one block; a block that would grow beyond is split in two. */
const blockKeysMax = 512;

export interface SortedKeys {
  readonly size: number;
  /** Adds a key that is not there. */
  add(key: string): void;
  /** Removes a key that is there. */
  remove(key: string): void;
  /** Keys at or behind `from`, ascending. Do not add or remove while it runs. */
  from(from: string): Iterable<string>;
}

/** An empty set of keys. */
export function sortedKeys(): SortedKeys {
  const blocks: string[][] = [];
  let size = 0;

  /** The last block that begins at or before `key`; the first block when all begin behind it. */
  function blockIndexOf(key: string): number {
    const behind = partitionPoint(blocks.length, (at) => (blocks[at]?.[0] ?? '') <= key);
    return Math.max(0, behind - 1);
  }

  return {
    get size() {
      return size;
    },
    add(key) {
      const blockIndex = blockIndexOf(key);
      const block = blocks[blockIndex];
      size += 1;
      if (block === undefined) {
        blocks.push([key]);
        return;
      }
      const at = positionOf(block, key);
      assert(block[at] !== key, 'a key is added once');
      block.splice(at, 0, key);
      if (block.length > blockKeysMax) {
        blocks.splice(blockIndex + 1, 0, block.splice(block.length >>> 1));
      }
    },
    remove(key) {
      const blockIndex = blockIndexOf(key);
      const block = blocks[blockIndex] ?? [];
      const at = positionOf(block, key);
      assert(block[at] === key, 'a key is removed while it is there');
      block.splice(at, 1);
      size -= 1;
      if (block.length === 0) blocks.splice(blockIndex, 1);
    },
    *from(from) {
      let blockIndex = blockIndexOf(from);
      let at = positionOf(blocks[blockIndex] ?? [], from);
      for (; blockIndex < blocks.length; blockIndex++, at = 0) {
        const block = blocks[blockIndex] ?? [];
        for (; at < block.length; at++) yield block[at] as string;
      }
    },
  };
}

/** Where `key` is in the block, or would be. */
function positionOf(block: readonly string[], key: string): number {
  return partitionPoint(block.length, (at) => (block[at] as string) < key);
}

/** The first position in [0, `length`] at which `holds` is false; it is true below and false from there on. */
function partitionPoint(length: number, holds: (at: number) => boolean): number {
  let low = 0;
  let high = length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (holds(middle)) low = middle + 1;
    else high = middle;
  }
  return low;
}

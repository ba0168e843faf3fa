// Where a search has been. A configuration is the set of operations that are placed and the state that they led to; one
// that was met before leads nowhere new. Some operations may be left out: of two configurations that differ in them
// alone, the one that has used fewer can do all that the other can, so that the other counts as met before.
//
// A hash table in two arrays of integers: chains of records, compared in full.

/** What a search holds at one moment. Bits beyond `lastWord` and before `firstWord` are all 0 and all 1. */
export interface Configuration {
  /** Of `required`, such that equal sets have equal hashes. */
  hash: number;
  /** Number of the state. */
  state: number;
  /** Operations that have to be placed and are, one bit each. */
  readonly required: Uint32Array;
  /** The word of the first operation that has to be placed and is not. */
  firstWord: number;
  /** The word of the last one that is placed. */
  lastWord: number;
  /** Operations that may be left out and are placed, one bit each. */
  readonly optional: Uint32Array;
}

export interface Memo {
  /** Offset of the first record of each chain; 0: none. Its length is a power of two. */
  heads: Int32Array;
  /** Records of `recordWords` integers and the words of both sets. */
  records: Int32Array;
  /** Integers of `records` that are in use; the first one never is. */
  usedWords: number;
  count: number;
  /** Records that were looked at, as a measure of work. */
  comparedCount: number;
}

/** Next record, hash, state, firstWord, number of required words, number of optional words. */
const recordWords = 6;
const headsAtFirst = 64;
const wordsAtFirst = 1_024;

export function openMemo(): Memo {
  return {
    heads: new Int32Array(headsAtFirst),
    records: new Int32Array(wordsAtFirst),
    usedWords: 1,
    count: 0,
    comparedCount: 0,
  };
}

/** Bytes that are in use. */
export function memoBytes({ heads, usedWords }: Memo): number {
  return heads.byteLength + usedWords * Int32Array.BYTES_PER_ELEMENT;
}

/** Keeps `configuration`; false when it, or one that can do all that it can, is kept already. */
export function tryRemember(memo: Memo, configuration: Configuration): boolean {
  const hash = mix(configuration.hash ^ Math.imul(configuration.state, 0x9e37_79b1));
  const { records } = memo;
  const head = memo.heads[hash & (memo.heads.length - 1)] as number;
  for (let at = head; at !== 0; at = records[at] as number) {
    memo.comparedCount += 1;
    if (records[at + 1] === hash && covers(records, at, configuration)) return false;
  }
  addRecord(memo, hash, configuration);
  return true;
}

/** Whether the record at `at` has the same state and required operations, and no optional one that is not in the other. */
function covers(records: Int32Array, at: number, configuration: Configuration): boolean {
  const { state, required, firstWord, lastWord, optional } = configuration;
  if (records[at + 2] !== state || records[at + 3] !== firstWord) return false;
  const requiredWords = records[at + 4] as number;
  if (requiredWords !== requiredWordsOf(configuration)) return false;
  let word = at + recordWords;
  for (let i = firstWord; i <= lastWord; i++) {
    if (records[word++] !== ((required[i] as number) | 0)) return false;
  }
  const optionalWords = records[at + 5] as number;
  for (let i = 0; i < optionalWords; i++) {
    if (((records[word++] as number) & ~(optional[i] as number)) !== 0) return false;
  }
  return true;
}

function addRecord(memo: Memo, hash: number, configuration: Configuration): void {
  const { state, required, firstWord, lastWord, optional } = configuration;
  const requiredWords = requiredWordsOf(configuration);
  let optionalWords = optional.length;
  while (optionalWords > 0 && optional[optionalWords - 1] === 0) optionalWords -= 1;
  const at = memo.usedWords;
  memo.usedWords = at + recordWords + requiredWords + optionalWords;
  if (memo.usedWords > memo.records.length) growRecords(memo);
  const { records } = memo;
  records[at + 1] = hash;
  records[at + 2] = state;
  records[at + 3] = firstWord;
  records[at + 4] = requiredWords;
  records[at + 5] = optionalWords;
  let word = at + recordWords;
  for (let i = firstWord; i <= lastWord; i++) records[word++] = required[i] as number;
  for (let i = 0; i < optionalWords; i++) records[word++] = optional[i] as number;
  memo.count += 1;
  if (memo.count > memo.heads.length) growHeads(memo, at);
  putInChain(memo, at);
}

function requiredWordsOf({ firstWord, lastWord }: Configuration): number {
  return Math.max(0, lastWord - firstWord + 1);
}

function putInChain({ heads, records }: Memo, at: number): void {
  const chain = (records[at + 1] as number) & (heads.length - 1);
  records[at] = heads[chain] as number;
  heads[chain] = at;
}

function growRecords(memo: Memo): void {
  const grown = new Int32Array(Math.max(memo.usedWords, Math.ceil(memo.records.length * 1.5)));
  grown.set(memo.records);
  memo.records = grown;
}

/** Doubles the chains and puts the records before `end` into them. */
function growHeads(memo: Memo, end: number): void {
  memo.heads = new Int32Array(memo.heads.length * 2);
  const { records } = memo;
  for (let at = 1; at < end; ) {
    putInChain(memo, at);
    at += recordWords + (records[at + 4] as number) + (records[at + 5] as number);
  }
}

/** Spreads an integer over 32 bits; different ones stay different. */
export function mix(value: number): number {
  let z = value | 0;
  z = Math.imul(z ^ (z >>> 16), 0x21f0_aaad);
  z = Math.imul(z ^ (z >>> 15), 0x735a_2d97);
  return z ^ (z >>> 15);
}

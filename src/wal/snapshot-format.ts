// The file of a snapshot (docs/internals/log-format.md): a head, blocks of equal size with a checksum each, and a foot that
// makes it whole. A block is the unit that is read and checked, so that a part can be read without the rest.

import { crc32 } from 'node:zlib';
import { assert } from '../base/assert.ts';
import { ByteReader, MalformedBytesError, readUint53, writeUint32 } from '../base/bytes.ts';
import type { SnapshotFacts } from '../ports/snapshot-store.ts';

const formatVersion = 1;
/** Bytes of the snapshot in every block but the last one, which has 1 … as many. */
export const blockBytes = 262_144;
/** Version and `blockBytes`. */
export const headBytes = 8;
/** Length and checksum. */
export const blockHeadBytes = 8;
/** Length and checksum of the whole, checksum of these. */
export const footBytes = 16;

/** Where block `number` (0 …) begins in the file. */
export function blockPosition(number: number): number {
  return headBytes + number * (blockHeadBytes + blockBytes);
}

/** Bytes of a whole file. */
export function fileBytes(byteLength: number): number {
  const blockCount = Math.ceil(byteLength / blockBytes);
  return headBytes + blockCount * blockHeadBytes + byteLength + footBytes;
}

/** Bytes of the snapshot in block `number`. */
export function bytesInBlock(number: number, byteLength: number): number {
  return Math.min(blockBytes, byteLength - number * blockBytes);
}

export function encodeHead(): Uint8Array {
  const bytes = new Uint8Array(headBytes);
  bytes[0] = formatVersion;
  writeUint32(bytes, 4, blockBytes);
  return bytes;
}

/** @throws MalformedBytesError */
export function checkHead(bytes: Uint8Array): void {
  const expected = encodeHead();
  if (bytes.byteLength !== headBytes || bytes.some((byte, i) => byte !== expected[i])) {
    throw new MalformedBytesError('the head is damaged or of another version');
  }
}

/** Its place is a part of the checksum: a block in another one's place is damage. */
export function encodeBlockHead(number: number, content: Uint8Array): Uint8Array {
  assert(content.byteLength > 0, 'a block has content');
  assert(content.byteLength <= blockBytes, 'a block is not too large');
  const bytes = new Uint8Array(blockHeadBytes);
  writeUint32(bytes, 0, content.byteLength);
  writeUint32(bytes, 4, crc32(content, number));
  return bytes;
}

/**
 * Checks a block, head and content.
 *
 * @param expectedBytes of content
 * @returns the content, a view
 * @throws MalformedBytesError
 */
export function decodeBlock(number: number, bytes: Uint8Array, expectedBytes: number): Uint8Array {
  const reader = new ByteReader(bytes);
  const length = reader.uint32();
  const checksum = reader.uint32();
  if (length !== expectedBytes) throw new MalformedBytesError(`${length} bytes in its head`);
  const content = reader.view(length);
  const actual = crc32(content, number);
  if (actual !== checksum)
    throw new MalformedBytesError(`the checksum is ${actual}, expected ${checksum}`);
  return content;
}

export function encodeFoot({ byteLength, checksum }: SnapshotFacts): Uint8Array {
  const bytes = new Uint8Array(footBytes);
  writeUint32(bytes, 0, byteLength % 0x1_0000_0000);
  writeUint32(bytes, 4, Math.floor(byteLength / 0x1_0000_0000));
  writeUint32(bytes, 8, checksum);
  writeUint32(bytes, 12, crc32(bytes.subarray(0, 12)));
  return bytes;
}

/** @throws MalformedBytesError */
export function decodeFoot(bytes: Uint8Array): SnapshotFacts {
  const reader = new ByteReader(bytes);
  reader.skip(8);
  const checksum = reader.uint32();
  if (reader.uint32() !== crc32(bytes.subarray(0, 12))) {
    throw new MalformedBytesError('the checksum of the foot does not match');
  }
  return { byteLength: readUint53(bytes, 0), checksum };
}

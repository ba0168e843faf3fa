// Commands of the key-value service in binary form: what a put or a delete looks like as the data of a log entry.
// Layout: format version (u8), operation (u8), condition (varint: 0 = none, else `ifIndex` + 1), key (varint length
// and UTF-8), value (the rest; puts only). The HTTP API checks what clients send before it encodes, so that nothing
// they send makes `decodeCommand` throw.

import { assert } from '../base/assert.ts';
import {
  ByteReader,
  ByteWriter,
  MalformedBytesError,
  utf8Bytes,
  varintBytes,
} from '../base/bytes.ts';
import { KommanderError } from '../base/errors.ts';
import type { LogIndex } from '../raft/types.ts';

/** Type of the log entries that carry commands. */
export const commandEntryType = 'kv';

export const keyValueLimits = {
  /** Bytes of a key in UTF-8; at least one. */
  keyBytesMax: 1_024,
  /** Bytes of a value; none is allowed. */
  valueBytesMax: 1_048_576,
} as const;

/** Bytes that a command takes beside its value, at most: what an entry limit must leave room for. */
export const commandOverheadBytesMax: number = 2 + 8 + 2 + keyValueLimits.keyBytesMax;

const formatVersion = 1;
const operationCodes = { put: 1, delete: 2 } as const;

interface Condition {
  /**
   * Carry the command out only if the key's last write has this index (0: only if the key does not exist).
   * Undefined: always.
   */
  readonly ifIndex: LogIndex | undefined;
}

export interface PutCommand extends Condition {
  readonly operation: 'put';
  readonly key: string;
  readonly value: Uint8Array;
}

export interface DeleteCommand extends Condition {
  readonly operation: 'delete';
  readonly key: string;
}

export type KeyValueCommand = PutCommand | DeleteCommand;

/** Whether `key` may be stored: 1 … `keyBytesMax` bytes of UTF-8, no lone surrogates. */
export function isValidKey(key: string): boolean {
  if (key.length === 0 || key.length > keyValueLimits.keyBytesMax) return false;
  if (!key.isWellFormed()) return false;
  const bytesMost = key.length * 3;
  return (
    bytesMost <= keyValueLimits.keyBytesMax ||
    utf8Bytes(key).byteLength <= keyValueLimits.keyBytesMax
  );
}

/** The entry data of a command. The value is copied. */
export function encodeCommand(command: KeyValueCommand): Uint8Array {
  assert(isValidKey(command.key), 'a key is checked before it becomes a command');
  const value = command.operation === 'put' ? command.value : undefined;
  assert((value?.byteLength ?? 0) <= keyValueLimits.valueBytesMax, 'a value is checked before');
  const key = utf8Bytes(command.key);
  const condition = command.ifIndex === undefined ? 0 : command.ifIndex + 1;
  const keyBytes = varintBytes(key.byteLength) + key.byteLength;
  const writer = new ByteWriter(10 + keyBytes + (value?.byteLength ?? 0));
  writer.uint8(formatVersion);
  writer.uint8(operationCodes[command.operation]);
  writer.varint(condition);
  writer.varint(key.byteLength);
  writer.raw(key);
  if (value !== undefined) writer.raw(value);
  return writer.finish();
}

/**
 * Reads a command. Its value is a view of `data`.
 *
 * @throws MALFORMED_COMMAND the bytes are no command that this version knows
 */
export function decodeCommand(data: Uint8Array): KeyValueCommand {
  try {
    return readCommand(new ByteReader(data));
  } catch (error) {
    if (!(error instanceof MalformedBytesError)) throw error;
    throw new KommanderError(`an entry of type "${commandEntryType}" is no key-value command`, {
      code: 'MALFORMED_COMMAND',
      details: { bytes: data.byteLength, reason: error.message },
      cause: error,
    });
  }
}

function readCommand(reader: ByteReader): KeyValueCommand {
  const version = reader.uint8();
  if (version !== formatVersion) throw new MalformedBytesError(`unknown version ${version}`);
  const code = reader.uint8();
  const condition = reader.varint();
  const ifIndex = condition === 0 ? undefined : condition - 1;
  const key = reader.text();
  if (!isValidKey(key)) throw new MalformedBytesError('a key that is empty or too long');
  if (code === operationCodes.put) {
    if (reader.remaining > keyValueLimits.valueBytesMax) {
      throw new MalformedBytesError(`a value of ${reader.remaining} bytes`);
    }
    return { operation: 'put', ifIndex, key, value: reader.view(reader.remaining) };
  }
  if (code !== operationCodes.delete) throw new MalformedBytesError(`unknown operation ${code}`);
  if (reader.remaining > 0) throw new MalformedBytesError('bytes behind a delete');
  return { operation: 'delete', ifIndex, key };
}

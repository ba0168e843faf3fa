// The table of all decoders, and why some exported functions with the name of one have no entry.

import type { Decoder } from './decoder.ts';
import { hostDecoders } from './host-decoders.ts';
import { serverDecoders } from './server-decoders.ts';
import { storeDecoders } from './store-decoders.ts';
import { wireDecoders } from './wire-decoders.ts';

export const decoders: readonly Decoder[] = [
  ...wireDecoders,
  ...storeDecoders,
  ...hostDecoders,
  ...serverDecoders,
];

/** Exported functions called `decode…`, `read…` or `parse…` that no entry covers, and why. */
export const notFuzzed: Readonly<Record<string, string>> = {
  'base/bytes.ts#readUint53': 'its callers check that the bytes are there, and are fuzzed',
  'cluster/system-state.ts#readmitted': 'not from bytes: what a readmission does to the state',
  'host/meta.ts#decodedFact': 'only gives an error its type; its callers are fuzzed',
  'host/piece-buffers.ts#readPiece': 'reads a snapshot store, whose files are fuzzed',
  'host/readmission.ts#readmissionOf': 'not from bytes: what is under way',
  'host/readmission.ts#readmissionPayload': 'not from bytes: makes a payload',
  'host/readmission.ts#readmissionResult': 'not from bytes: what callers are told',
  'raft/raft.ts#readIndex': 'not from bytes: a read of the paper',
  'server/demo/load.ts#readLinearizably': 'asks the nodes that the demo has started',
  'server/http-request.ts#readBody':
    'counts bytes and gives them on as they are; test/server-http.test.ts',
  'testing/simulation/disk-rows.ts#decodeLog': 'of the simulated disk, which nobody else writes',
  'wal/damage.ts#decoded': 'only gives an error its type; its callers are fuzzed',
  'wal/rocksdb-entries.ts#decodedRun': 'only gives an error its type; runs are fuzzed',
  'wal/rocksdb-entries.ts#readEntries':
    'joins runs, which are fuzzed; src/wal/rocksdb-entries.test.ts',
  'wal/rocksdb-entries.ts#readValue': 'reads a row and gives it on as it is',
  'wal/rocksdb-reader.ts#readRocksDbStore':
    'the files are those of RocksDB; its rows are fuzzed one by one, damaged files are in test/wal-tools/reader.test.ts',
  'wal/segment-store.ts#readFrom': 'reads bytes and gives them on as they are',
  'wal/sqlite-reader.ts#readSqliteStore':
    'the file is that of SQLite; its records are fuzzed one by one, damaged files are in test/wal-tools/sqlite-reader.test.ts',
  'wal/sqlite-scan.ts#readBatchMark': 'reads a row, whose record is fuzzed',
  'wal/sqlite-store.ts#readRuns': 'reads rows and gives them on as they are',
};

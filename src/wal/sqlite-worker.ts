// The worker thread of one SQLite log store: `node:sqlite` blocks its thread, for as long as a sync takes. One request
// after the other; a checkpoint runs behind the answer to the write that made it due, and the next request waits for it.

import { parentPort } from 'node:worker_threads';
import { must, unreachable } from '../base/assert.ts';
import { isKommanderError } from '../base/errors.ts';
import { checkNothingLost } from './sqlite-evidence.ts';
import { unpackOperations } from './sqlite-operations.ts';
import {
  errorOf,
  type OpenedSqliteStore,
  type PlainError,
  plainError,
  type SqliteReply,
  type SqliteRequest,
} from './sqlite-protocol.ts';
import { readBatchMark, scanSqlite } from './sqlite-scan.ts';
import {
  checkpoint,
  closeDatabase,
  isCheckpointDue,
  openDatabase,
  readRuns,
  type SqliteStore,
  writeOperations,
} from './sqlite-store.ts';

const port = must(parentPort ?? undefined, 'this file is the program of a worker thread');
let store: SqliteStore | undefined;
/** Why nothing is written any more. Requests that were sent before the other side knows of it must not be believed. */
let failure: PlainError | undefined;
/** Requests are taken up one after the other, although opening loads a module. */
let last: Promise<void> = Promise.resolve();

port.on('message', (request: SqliteRequest) => {
  last = last.then(() => answer(request));
});

async function answer(request: SqliteRequest): Promise<void> {
  try {
    await carryOut(request);
  } catch (error) {
    const plain = plainError(error);
    if (request.verb === 'write' && plain.code !== 'DISK_FULL') failure ??= plain;
    send({ error: plain });
  }
  if (request.verb === 'write' && failure === undefined) relieveJournal();
  if (request.verb === 'close') port.close();
}

async function carryOut(request: SqliteRequest): Promise<void> {
  switch (request.verb) {
    case 'open':
      send({ result: await open(request.path) });
      return;
    case 'write':
      if (failure !== undefined) throw errorOf(failure);
      writeOperations(opened(), unpackOperations(request.operations), request.sync);
      send({ result: undefined });
      return;
    case 'read': {
      const runs = readRuns(opened(), request);
      send({ result: runs }, buffersOf(runs));
      return;
    }
    case 'close':
      if (store !== undefined) closeDatabase(store);
      send({ result: undefined });
      return;
    default:
      unreachable(request);
  }
}

async function open(path: string): Promise<OpenedSqliteStore> {
  const made = await openDatabase(path);
  try {
    const mark = readBatchMark(made);
    // First of all: whatever else is wrong, closing the store moves the journal, and its evidence would go with it.
    checkNothingLost(path, mark);
    const scanned = scanSqlite(made);
    // A process that was killed may have written what was never synced. Whoever is told of it may rely on it.
    checkpoint(made);
    store = made;
    return { ...scanned, mark };
  } catch (error) {
    closeDatabase(made);
    throw error;
  }
}

function opened(): SqliteStore {
  return must(store, 'the store is opened first');
}

function relieveJournal(): void {
  try {
    if (store !== undefined && isCheckpointDue(store)) checkpoint(store);
  } catch (error) {
    // Without room it is tried again before the next batch, which is refused if that fails as well.
    if (isKommanderError(error, 'DISK_FULL')) return;
    failure = plainError(error);
    send({ notice: failure });
  }
}

function send(reply: SqliteReply, transfer: readonly ArrayBuffer[] = []): void {
  port.postMessage(reply, transfer);
}

function buffersOf(runs: readonly (Uint8Array | undefined)[]): ArrayBuffer[] {
  return runs.flatMap((run) => (run === undefined ? [] : [run.buffer as ArrayBuffer]));
}

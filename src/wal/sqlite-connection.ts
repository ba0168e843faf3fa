// The engine's end of the wire to its worker thread: requests in, promises out. Answers come in the order of the requests.
// When the worker dies, everybody who waits for it is told, and everybody who asks later.

import { Worker } from 'node:worker_threads';
import { must } from '../base/assert.ts';
import { KommanderError } from '../base/errors.ts';
import {
  errorOf,
  type SqliteReply,
  type SqliteRequest,
  type SqliteResults,
} from './sqlite-protocol.ts';

export interface SqliteConnection {
  /**
   * @param transfer buffers in the request that are given away
   * @throws what the worker says
   * @throws WAL_FAILED the worker died: what it did with the request is unknown
   */
  ask<Verb extends SqliteRequest['verb']>(
    request: SqliteRequest & { readonly verb: Verb },
    transfer?: readonly ArrayBuffer[],
  ): Promise<SqliteResults[Verb]>;
  /** Closes the store when all earlier requests are answered; resolves when the thread has ended. Once. */
  close(): Promise<void>;
}

interface Waiting {
  readonly resolve: (result: SqliteResults[SqliteRequest['verb']]) => void;
  readonly reject: (error: KommanderError) => void;
}

/**
 * Starts a worker.
 *
 * @param program a file that answers `SqliteRequest`s
 * @param onFailure is told when the store failed outside of a request, or the worker died
 */
export function openConnection(
  program: URL,
  onFailure: (error: KommanderError) => void,
): SqliteConnection {
  // The flags of this process are not those of a worker: `--input-type`, say, would keep it from starting.
  const worker = new Worker(program, { execArgv: [] });
  const waiting: Waiting[] = [];
  let death: KommanderError | undefined;
  let isClosing = false;

  const exited = new Promise<void>((resolve) => {
    worker.once('error', die);
    worker.once('exit', (code) => {
      die(`it ended with code ${code}`);
      resolve();
    });
  });

  function die(reason: unknown): void {
    if (death !== undefined) return;
    death = new KommanderError(`the thread of the log store died: ${String(reason)}`, {
      code: 'WAL_FAILED',
      cause: reason,
    });
    for (const { reject } of waiting.splice(0)) reject(death);
    if (!isClosing) onFailure(death);
  }

  worker.on('message', (reply: SqliteReply) => {
    // Answers may come out behind the news of the death: whoever waited has been told already.
    if (death !== undefined) return;
    if ('notice' in reply) {
      onFailure(errorOf(reply.notice));
      return;
    }
    const { resolve, reject } = must(waiting.shift(), 'each request has one answer');
    // A store that nobody waits for does not keep the process alive.
    if (waiting.length === 0) worker.unref();
    if ('error' in reply) reject(errorOf(reply.error));
    else resolve(reply.result);
  });
  worker.unref();

  function ask<Verb extends SqliteRequest['verb']>(
    request: SqliteRequest & { readonly verb: Verb },
    transfer: readonly ArrayBuffer[] = [],
  ): Promise<SqliteResults[Verb]> {
    return new Promise((resolve, reject) => {
      if (death !== undefined) {
        reject(death);
        return;
      }
      waiting.push({ resolve: resolve as Waiting['resolve'], reject });
      worker.ref();
      worker.postMessage(request, transfer);
    });
  }

  async function close(): Promise<void> {
    isClosing = true;
    try {
      await ask({ verb: 'close' });
    } finally {
      // It ends by itself now; whoever waits for that must not be left by the process before.
      worker.ref();
      await exited;
    }
  }

  return { ask, close };
}

// The backup of a node on its way through HTTP: errors that come before the first byte are answers like any other, and
// those that come later travel within the stream, so that the client can print them.

import { backupFailure, type KommanderNode } from '../index.ts';
import { clientError } from './http-errors.ts';

/** Begins a backup, which ends when its stream is given up. @throws what comes before its first piece */
export async function beginBackup(
  node: KommanderNode,
  signal: AbortSignal,
): Promise<AsyncIterable<Uint8Array>> {
  const pieces = node.backup({ signal })[Symbol.asyncIterator]();
  let ahead: IteratorResult<Uint8Array> | undefined = await pieces.next();

  async function next(): Promise<IteratorResult<Uint8Array>> {
    const taken = ahead;
    ahead = undefined;
    if (taken !== undefined) return taken;
    try {
      return await pieces.next();
    } catch (error) {
      // Behind its failure the source is at its end.
      return { done: false, value: backupFailure(clientError(error)) };
    }
  }

  async function end(): Promise<IteratorResult<Uint8Array>> {
    await pieces.return?.();
    return { done: true, value: undefined };
  }

  // No generator: one that was never asked for a piece would not end the backup when it is given up.
  return { [Symbol.asyncIterator]: () => ({ next, return: end }) };
}

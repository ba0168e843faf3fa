// The end of a run: every key is read linearizably and judged by its ledger. A read that gets no answer is tried again
// through another node; what cannot be read at all is not known to be there, so it counts as lost.

import { setTimeout as pause } from 'node:timers/promises';
import type { Cluster } from './cluster.ts';
import { HttpConnection } from './http-connection.ts';
import { judge, type KeyLedger } from './ledger.ts';
import { readLinearizably, requestMsMax } from './load.ts';

const readersMax = 16;
const triesMax = 20;
const retryMs = 250;

/**
 * Reads every key.
 *
 * @returns what is wrong, one sentence per key; empty when every acknowledged write is there
 */
export async function verify(
  cluster: Cluster,
  ledgers: readonly KeyLedger[],
): Promise<readonly string[]> {
  const problems: string[] = [];
  let next = 0;

  async function run(reader: number): Promise<void> {
    const nodes = cluster.running();
    const connections = nodes.map((node) => new HttpConnection(node.httpPort, requestMsMax));
    for (let ledger = ledgers[next++]; ledger !== undefined; ledger = ledgers[next++]) {
      const problem = await problemOf(ledger, connections, reader + next);
      if (problem !== undefined) problems.push(problem);
    }
    for (const connection of connections) connection.close();
  }

  await Promise.all(Array.from({ length: readersMax }, (_, reader) => run(reader)));
  return problems;
}

async function problemOf(
  ledger: KeyLedger,
  connections: readonly HttpConnection[],
  first: number,
): Promise<string | undefined> {
  for (let attempt = 0; attempt < triesMax; attempt++) {
    const connection = connections[(first + attempt) % Math.max(1, connections.length)];
    const read = connection && (await readLinearizably(connection, ledger.key));
    if (read !== undefined && read !== 'failed') return judge(ledger, read.found);
    await pause(retryMs);
  }
  return ledger.acknowledged && `${ledger.key}: could not be read`;
}

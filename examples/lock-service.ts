// Locks with leases. Three rules make it correct: time is that of the log, so that all replicas decide alike; a token
// is the index of the entry that gave the lock, so that it grows with every holder, and whoever guards the protected
// thing refuses lower ones (a holder may stand still for longer than its lease and not know it); and the same acquire
// or release may happen twice, so that both can be retried.
//   npm run build && node examples/lock-service.ts

import { setTimeout as sleep } from 'node:timers/promises';
import { isKommanderError, openNode, type StateMachine, timestampWallMs } from 'kommander';
import { staticDiscovery } from 'kommander/discovery/static';
import { grpcTransport } from 'kommander/transport/grpc';
import { memoryWal } from 'kommander/wal/memory';

type Lock = { owner: string; token: number; endMs: number };
type Command =
  | { kind: 'acquire'; name: string; owner: string; leaseMs: number }
  | { kind: 'release'; name: string; token: number };

const bytesOf = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));
const parse = (data: Uint8Array): unknown => JSON.parse(new TextDecoder().decode(data));

function lockTable(): StateMachine {
  let nowMs = 0; // never goes back, also when another node's clock leads
  let locks = new Map<string, Lock>();
  function carryOut(command: Command, index: number): number | undefined {
    const held = locks.get(command.name);
    if (command.kind === 'release') {
      if (held?.token === command.token) locks.delete(command.name);
      return undefined;
    }
    const isHeld = held !== undefined && nowMs < held.endMs;
    if (isHeld && held.owner !== command.owner) return undefined;
    const token = isHeld ? held.token : index;
    locks.set(command.name, { owner: command.owner, token, endMs: nowMs + command.leaseMs });
    return token;
  }
  return {
    apply: (entries) =>
      entries.map(({ timestamp, data, index }) => {
        nowMs = Math.max(nowMs, timestampWallMs(timestamp));
        return carryOut(parse(data) as Command, index);
      }),
    snapshot: () => bytesOf([nowMs, [...locks]]),
    async restore(data) {
      const [storedNowMs, stored] = parse(await data.bytes()) as [number, [string, Lock][]];
      nowMs = storedNowMs;
      locks = new Map(stored);
    },
  };
}

const members = { a: '127.0.0.1:8131', b: '127.0.0.1:8132', c: '127.0.0.1:8133' };
const nodes = await Promise.all(
  Object.entries(members).map(([nodeId, listen]) => {
    const adapters = { wal: memoryWal(), transport: grpcTransport() };
    const discovery = staticDiscovery(members);
    return openNode({ nodeId, listen, ...adapters, discovery, stateMachine: lockTable });
  }),
);

/** Gives the token of an acquire, or undefined when another owner has the lock. */
async function send(command: Command, triesLeft = 20): Promise<number | undefined> {
  try {
    const written = await nodes[0]?.replicate(1, 'lock', bytesOf(command));
    return written?.result as number | undefined;
  } catch (error) {
    if (!isKommanderError(error) || !error.retryable || triesLeft === 0) throw error;
    await sleep(100);
    return send(command, triesLeft - 1);
  }
}

let highestToken = 0; // what the guard of the protected thing, here a printer, must remember
function print(who: string, token = 0): void {
  console.log(token === 0 || token < highestToken ? `${who} is refused` : `${who} prints`);
  highestToken = Math.max(highestToken, token);
}

const lock = { kind: 'acquire', name: 'printer', leaseMs: 1_500 } as const;
const first = await send({ ...lock, owner: 'anna' });
print('anna', first);
console.log(`bert waits: ${(await send({ ...lock, owner: 'bert' })) === undefined}`);
await sleep(2_500); // anna stands still for longer than her lease
const second = await send({ ...lock, owner: 'bert' });
print('bert', second);
print('anna', first);
if (second !== undefined) await send({ kind: 'release', name: 'printer', token: second });
await Promise.all(nodes.map((node) => node.close()));

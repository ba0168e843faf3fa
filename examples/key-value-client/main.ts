// Books payments exactly once although nodes fail, and counts with compare-and-set. Start a cluster
// (`npx kommander demo`), then: node examples/key-value-client/main.ts http://127.0.0.1:7101 http://127.0.0.1:7102

import { randomUUID } from 'node:crypto';
import { type Client, keyValueClient, OutcomeUnknown } from './client.ts';

const [, , ...given] = process.argv;
const nodes = given.length > 0 ? given : ['http://127.0.0.1:7101'];
const client = keyValueClient(nodes);
const run = randomUUID();

// A payment has an id, so that creating it may be repeated: whatever happened to the first try, it is there once.
const payments = Array.from({ length: 20 }, (_, at) => `payments/${run}/${at}`);
const booked = await Promise.all(payments.map((id) => client.create(id, `${id}: 10 EUR`)));
console.log(
  `${booked.filter(Boolean).length} of ${payments.length} payments are booked, once each`,
);

// A counter is read, changed, and written if nobody else wrote it meanwhile; otherwise the round begins anew.
const counter = `counters/${run}`;
await client.create(counter, '0');
const increments = await Promise.all(Array.from({ length: 20 }, () => increment(client, counter)));
const unknown = increments.filter((each) => each === 'unknown').length;
const final = Number((await client.get(counter))?.value);
console.log(
  `the counter is ${final} after 20 increments, of which ${unknown} have an open outcome`,
);
process.exitCode = final >= 20 - unknown && final <= 20 && booked.every(Boolean) ? 0 : 1;

async function increment(of: Client, key: string): Promise<'done' | 'unknown'> {
  for (;;) {
    const found = await of.get(key);
    if (found === undefined) throw new Error(`${key} is gone`);
    try {
      if (await of.replace(key, `${Number(found.value) + 1}`, found.index)) return 'done';
    } catch (error) {
      // It may have counted or not. An increment must not happen twice, so it is not repeated.
      if (error instanceof OutcomeUnknown) return 'unknown';
      throw error;
    }
  }
}

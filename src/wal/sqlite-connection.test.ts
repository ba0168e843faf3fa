// What becomes of those who wait for the thread of a store when it dies: programs that die on purpose stand in for it.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isKommanderError, type KommanderError } from '../base/errors.ts';
import { openConnection } from './sqlite-connection.ts';

/** A worker that does `body` with each message, as `message`, and has `port`. */
function programOf(body: string): URL {
  const text = `
    import { parentPort as port } from 'node:worker_threads';
    let count = 0;
    port.on('message', (message) => { count += 1; ${body} });
  `;
  return new URL(`data:text/javascript,${encodeURIComponent(text)}`);
}

const isFailed = (error: unknown): boolean => isKommanderError(error, 'WAL_FAILED');

for (const [name, body] of [
  ['ends', 'if (count === 2) process.exit(3); else port.postMessage({ result: [] });'],
  ['throws', "if (count === 2) throw new Error('no more'); else port.postMessage({ result: [] });"],
] as const) {
  test(`a worker that ${name} fails all who wait for it, all who ask later, and the store`, async () => {
    const failures: KommanderError[] = [];
    const connection = openConnection(programOf(body), (error) => failures.push(error));
    const request = { verb: 'read', rowIds: [], bytesMax: 1 } as const;
    assert.deepEqual(await connection.ask(request), []);
    const asked = await Promise.allSettled([1, 2, 3].map(() => connection.ask(request)));
    for (const each of asked) assert.ok(each.status === 'rejected' && isFailed(each.reason));
    await assert.rejects(connection.ask(request), isFailed);
    assert.equal(failures.length, 1);
    await assert.rejects(connection.close(), isFailed);
  });
}

test('a failure that the worker tells without being asked fails the store', async () => {
  const failures: KommanderError[] = [];
  const notice = { code: 'WAL_FAILED', message: 'the checkpoint failed', details: {} };
  const body = `
    port.postMessage({ result: undefined });
    if (message.verb === 'write') port.postMessage({ notice: ${JSON.stringify(notice)} });
    else port.close();
  `;
  const connection = openConnection(programOf(body), (error) => failures.push(error));
  const operations = { numbers: new Float64Array(0), bytes: new Uint8Array(0) };
  await connection.ask({ verb: 'write', operations, sync: true });
  await connection.close();
  assert.deepEqual(
    failures.map(({ code, message }) => [code, message]),
    [['WAL_FAILED', 'the checkpoint failed']],
  );
});

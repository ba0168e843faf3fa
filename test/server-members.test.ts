// The members and their readmission over HTTP, with a node that does what the test says.

import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { openHttpApi } from '../src/server/http-api.ts';
import { type FakeService, fakeError, fakeService } from './server-fake-node.ts';

async function openFake(t: TestContext): Promise<{ url: string; service: FakeService }> {
  const api = await openHttpApi({ listen: '127.0.0.1:0' });
  t.after(() => api.close());
  const service = fakeService();
  api.attach(service);
  return { url: `http://${api.endpoint}`, service };
}

/** Status, code and reason of an error. */
async function refusalOf(response: Response): Promise<readonly unknown[]> {
  const { code, details } = (await response.json()) as {
    code: string;
    details: { reason?: string };
  };
  return [response.status, code, details.reason];
}

test('the members are listed, and a readmission is 200, or says why it is not', async (t) => {
  const { url, service } = await openFake(t);
  const listed = (await (await fetch(`${url}/v1/members`)).json()) as { members: unknown[] };
  assert.deepEqual(listed.members, [
    {
      node: 'a',
      replica: 1,
      endpoint: '127.0.0.1:8001',
      reachable: true,
      refused: false,
      voterOf: [0, 1, 2],
      learnerOf: [],
      readmittingIn: [],
    },
  ]);
  const readmit = (nodeId: string): Promise<Response> =>
    fetch(`${url}/v1/members/${nodeId}/readmit`, { method: 'POST' });
  const done = await readmit('node%2Db');
  assert.equal(done.status, 200);
  assert.deepEqual(await done.json(), { node: 'node-b', replica: 1_026 });
  assert.deepEqual(await refusalOf(await readmit('%ff')), [400, 'INVALID_ARGUMENT', undefined]);
  assert.equal((await fetch(`${url}/v1/members?x=1`)).status, 400);
  for (const code of ['READMISSION_REFUSED', 'UNKNOWN_NODE'] as const) {
    service.fail(fakeError(code, { reason: 'it is alive' }));
    assert.deepEqual(await refusalOf(await readmit('b')), [409, code, 'it is alive']);
  }
});

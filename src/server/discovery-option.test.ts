// `--discovery`: which forms are understood, and that bad ones are refused with what is bad about them.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { isKommanderError } from '../base/errors.ts';
import { discoveryFor, isDiscoveryOption } from './discovery-option.ts';

const members = { a: '127.0.0.1:8001', b: '127.0.0.1:8002' };

function problemOf(text: string, list: Parameters<typeof discoveryFor>[1] = members): string {
  try {
    discoveryFor(text, list);
  } catch (error) {
    assert.ok(isKommanderError(error, 'INVALID_OPTION'), String(error));
    assert.equal(error.details.option, 'discovery');
    return error.message;
  }
  throw new Error(`${text} was taken`);
}

test('a scheme alone, with an address and with parameters names a discovery', () => {
  for (const text of [
    'multicast',
    'multicast?cluster=x',
    'multicast://239.1.2.3',
    'multicast://239.1.2.3:1901?cluster=x&interface=127.0.0.1&interface=eth0',
    'multicast://[ff02::db8]:1901',
    'multicast://?cluster=x',
  ]) {
    assert.ok(isDiscoveryOption(text), text);
    assert.equal(discoveryFor(text, ['a', 'b']).fixedNodes, undefined, text);
  }
  assert.deepEqual(discoveryFor('static', members).fixedNodes, members);
});

test('what is no scheme with a URL is not understood', () => {
  for (const text of [
    '',
    'pigeon',
    'Multicast',
    'multicastx',
    'multicast:',
    'multicast:x',
    '://x',
    'toString',
  ]) {
    assert.equal(isDiscoveryOption(text), false, text);
    assert.match(problemOf(text), /expected one of static, multicast/);
  }
});

test('a bad address or parameter is refused with what is bad about it', () => {
  for (const [text, problem] of [
    ['static://x', /takes no address/],
    ['static?x=1', /takes no address/],
    ['multicast://10.0.0.1', /option group is 10\.0\.0\.1/],
    ['multicast://group.example', /option group/],
    ['multicast://239.0.0.1:0', /option port is 0/],
    ['multicast://239.0.0.1/path', /no path/],
    ['multicast?cluster=a%20b', /option cluster/],
    ['multicast?clustre=a', /no parameter "clustre"; there are cluster, interface, secret-file/],
    ['multicast?secret-file=/none', /cannot be read: ENOENT/],
  ] as const) {
    assert.match(problemOf(text), problem, text);
  }
  assert.match(problemOf('static', ['a', 'b']), /finds nobody/);
});

test('secrets come from a file, one a line, and are in no message', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'kommander-secret-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const path = join(directory, 'secret');
  const text = `multicast?secret-file=${path}`;
  writeFileSync(path, 'the first long secret\nthe second long secret\n');
  discoveryFor(text, members);
  writeFileSync(path, '\n');
  assert.match(problemOf(text), /is empty/);
  writeFileSync(path, 'tooshort\n');
  assert.match(problemOf(text), /option secrets is not valid/);
  assert.doesNotMatch(problemOf(text), /tooshort/);
});

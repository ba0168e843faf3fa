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

test('a registry is named by the URL of its server', () => {
  for (const text of [
    'redis://10.0.0.1',
    'redis://:pass%20word@10.0.0.1:6380/2?cluster=orders',
    'rediss://redis.example',
    'etcd://10.0.0.1',
    'etcd://root:pass%20word@[::1]:2379?cluster=orders&member=10.0.0.2&member=10.0.0.3:2380',
    'etcds://etcd.example',
    'consul://127.0.0.1',
    'consuls://consul.example:8501?cluster=orders',
    'dns://_raft._tcp.raft.default.svc.cluster.local',
    'dns://_raft._tcp.raft.example?server=127.0.0.1:5353&server=[::1]',
  ]) {
    assert.ok(isDiscoveryOption(text), text);
    assert.equal(discoveryFor(text, ['a', 'b']).fixedNodes, undefined, text);
  }
});

test('a bad URL of a registry is refused with what is bad about it, and without its password', () => {
  for (const [text, problem] of [
    ['redis', /needs a host/],
    ['redis://h/0?clustre=x', /no parameter "clustre"; there are cluster/],
    ['redis://u:secret@h?cluster=a%20b', /"redis:\/\/…@h\?cluster=a%20b".*option cluster/],
    ['redis://u:secret@h:port', /"redis:\/\/…@h:port" is not valid: expected one of/],
    ['rediss:u:secret@h', /"rediss:…@h" is not valid/],
    ['etcd://u:secret@h/path', /takes no path/],
    ['etcd://u:secret@h?member=h:port', /option url is not valid/],
    ['consul://h?token-file=/none', /cannot be read: ENOENT/],
    ['dns://raft.example', /name of SRV records/],
    ['dns://_raft._tcp.example:1', /name of SRV records/],
    ['dns://_raft.example', /option name/],
    ['dns://_raft._tcp.example?server=x', /option servers is not valid/],
  ] as const) {
    assert.match(problemOf(text), problem, text);
    assert.doesNotMatch(problemOf(text), /secret@/, text);
  }
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
  writeFileSync(path, 'a-token\n');
  discoveryFor(`consul://h?token-file=${path}`, members);
  writeFileSync(path, 'two words\n');
  assert.match(problemOf(`consul://h?token-file=${path}`), /option token/);
});

// Announcements as bytes: golden ones, and that nothing which comes from the network throws or is believed unsigned.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  type Announcement,
  type AnnouncementGroup,
  announcementBytesMax,
  decodeAnnouncement,
  encodeAnnouncement,
} from './announcement.ts';

const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 0x7fff_ffff));
console.log(`# SEED=${seed}`);

const open: AnnouncementGroup = { cluster: 'test', secrets: [] };
const signed: AnnouncementGroup = { cluster: 'test', secrets: ['sixteen letters!'] };
const here: Announcement = {
  kind: 'here',
  nodeId: 'a',
  startId: 'start1',
  endpoint: '10.0.0.1:8001',
  stamp: 1_767_225_600_000,
};

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

test('version 1 keeps its bytes', () => {
  const before = '4b4d445201';
  const behind = '04746573740161067374617274310d31302e302e302e313a3830303100a8da769b010000';
  const signature = '6dec211127ed4a3314cd57d0d7740cd2355b67a7af0f53c70cdfbace6a85aeef';
  assert.equal(hex(encodeAnnouncement(open, here)), `${before}00${behind}`);
  const goodbye = encodeAnnouncement(signed, { ...here, kind: 'goodbye' });
  assert.equal(hex(goodbye), `${before}01${behind}${signature}`);
});

test('what one side says the other side reads, signed or not', () => {
  const name = fc.stringMatching(/^[A-Za-z0-9._-]{1,64}$/);
  fc.assert(
    fc.property(
      fc.record({
        kind: fc.constantFrom<Announcement['kind']>('here', 'goodbye'),
        nodeId: name,
        startId: fc.stringMatching(/^[A-Za-z0-9]{1,64}$/),
        endpoint: fc.constantFrom(
          '10.0.0.1:1',
          '[fe80::1%eth0]:65535',
          `${'a'.repeat(63)}.example:80`,
        ),
        stamp: fc.maxSafeNat(),
      }),
      name,
      fc.constantFrom<readonly string[]>([], ['sixteen letters!'], ['s'.repeat(1_024)]),
      (announcement, cluster, secrets) => {
        const group = { cluster, secrets };
        const bytes = encodeAnnouncement(group, announcement);
        assert.ok(bytes.byteLength <= announcementBytesMax);
        assert.deepEqual(decodeAnnouncement(group, bytes), { ...announcement });
      },
    ),
    { seed, numRuns: 300 },
  );
});

test('the longest announcement that there can be fits its bound', () => {
  const long = 'x'.repeat(64);
  const host = [...Array.from({ length: 3 }, () => 'h'.repeat(63)), 'h'.repeat(61)].join('.');
  const announcement = { ...here, nodeId: long, startId: long, endpoint: `${host}:65535` };
  const bytes = encodeAnnouncement({ cluster: long, secrets: ['sixteen letters!'] }, announcement);
  assert.ok(bytes.byteLength > 480 && bytes.byteLength <= announcementBytesMax);
});

test('bytes of other programs, other versions and other clusters are told apart', () => {
  const bytes = encodeAnnouncement(open, here);
  const changed = (at: number, byte: number): Uint8Array =>
    Uint8Array.from(bytes).fill(byte, at, at + 1);
  const ssdp = Buffer.from('M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\n\r\n');
  const refused: readonly (readonly [string, Uint8Array, string])[] = [
    ['nothing', new Uint8Array(0), 'foreign'],
    ['SSDP', ssdp, 'foreign'],
    ['the magic alone', bytes.subarray(0, 4), 'malformed'],
    ['another version', changed(4, 2), 'version'],
    ['an unknown kind', changed(5, 2), 'malformed'],
    ['a cut end', bytes.subarray(0, -1), 'malformed'],
    ['more behind', Buffer.concat([bytes, Uint8Array.of(0)]), 'malformed'],
    ['too long', Buffer.concat([bytes, new Uint8Array(announcementBytesMax)]), 'malformed'],
    ['another cluster', encodeAnnouncement({ ...open, cluster: 'other' }, here), 'otherCluster'],
    ['no node id', encodeAnnouncement(open, { ...here, nodeId: 'a b' }), 'malformed'],
    ['no start id', encodeAnnouncement(open, { ...here, startId: '' }), 'malformed'],
    ['no endpoint', encodeAnnouncement(open, { ...here, endpoint: '10.0.0.1' }), 'malformed'],
  ];
  for (const [what, given, reason] of refused) {
    assert.equal(decodeAnnouncement(open, given), reason, what);
  }
});

test('with a secret only what was signed with it is believed, and nothing of it may be changed', () => {
  const bytes = encodeAnnouncement(signed, here);
  assert.equal(decodeAnnouncement(signed, encodeAnnouncement(open, here)), 'signature');
  const foreign = { ...signed, secrets: ['another sixteen letters'] };
  assert.equal(decodeAnnouncement(signed, encodeAnnouncement(foreign, here)), 'signature');
  for (let at = 0; at < bytes.byteLength; at++) {
    const forged = Uint8Array.from(bytes);
    forged[at] = (forged[at] ?? 0) ^ 1;
    assert.equal(typeof decodeAnnouncement(signed, forged), 'string', `byte ${at}`);
  }
  // A cluster with another secret is none of ours: not a forgery.
  const other = { cluster: 'other', secrets: ['another sixteen letters'] };
  assert.equal(decodeAnnouncement(signed, encodeAnnouncement(other, here)), 'otherCluster');
  // Whoever has no secret cannot know who has signed.
  assert.equal(decodeAnnouncement(open, bytes), 'signature');
  for (const length of [6, 11, 12, 30, 40]) {
    assert.equal(typeof decodeAnnouncement(signed, bytes.subarray(0, length)), 'string');
  }
});

test('while secrets change both are believed, and the first one signs', () => {
  const [former = ''] = signed.secrets;
  const next = 'the next secret of ours';
  const both = { ...signed, secrets: [next, former] };
  assert.deepEqual(decodeAnnouncement(both, encodeAnnouncement(signed, here)), here);
  assert.deepEqual(
    decodeAnnouncement({ ...signed, secrets: [next] }, encodeAnnouncement(both, here)),
    here,
  );
});

test('no bytes whatever make the reader throw', () => {
  const groups = [open, signed];
  const valid = groups.map((group) => encodeAnnouncement(group, here));
  fc.assert(
    fc.property(
      fc.constantFrom(...groups),
      fc.constantFrom(...valid),
      fc.array(fc.tuple(fc.nat(200), fc.nat(255)), { maxLength: 5 }),
      fc.nat(200),
      fc.uint8Array({ maxLength: 600 }),
      (group, bytes, changes, cut, tail) => {
        const mangled = Buffer.concat([bytes.subarray(0, bytes.byteLength - (cut % 40)), tail]);
        for (const [at, byte] of changes) if (at < mangled.byteLength) mangled[at] = byte;
        decodeAnnouncement(group, mangled);
        decodeAnnouncement(group, tail);
      },
    ),
    { seed, numRuns: 2_000 },
  );
});

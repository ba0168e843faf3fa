// One announcement of multicast discovery as bytes: who a node is and where, or that it goes. Version 1:
//
//   "KMDR" · version · kind · cluster · node id · start id · endpoint · stamp · [HMAC-SHA256 of all before, 32 bytes]
//
// Texts have a varint length in front; the stamp is 8 bytes. What the reader gets comes from anybody on the network: it
// is bounded, it is checked, and it never throws.

import { createHmac, timingSafeEqual } from 'node:crypto';
import { assert } from '../base/assert.ts';
import { ByteReader, ByteWriter, MalformedBytesError, utf8Bytes } from '../base/bytes.ts';
import { isNodeId, parseEndpoint } from '../base/endpoint.ts';
import { isKommanderError } from '../base/errors.ts';
import type { Endpoint, NodeId } from '../ports/transport.ts';

export interface Announcement {
  readonly kind: 'here' | 'goodbye';
  readonly nodeId: NodeId;
  /** Of this start of the process. */
  readonly startId: string;
  readonly endpoint: Endpoint;
  /** The sender's wall clock in milliseconds; made to grow with every announcement of one start. */
  readonly stamp: number;
}

/** Whose announcements are exchanged. */
export interface AnnouncementGroup {
  /** 1 to 64 characters, as a node id. */
  readonly cluster: string;
  /** The first one signs, each is accepted; none: announcements are not signed, and signed ones not accepted. */
  readonly secrets: readonly string[];
}

/**
 * Why an announcement is not taken. `foreign`: of another program; `otherCluster`: of no concern; `signature`: made
 * without one of our secrets, or with one where we have none.
 */
export type RefusedBytes = 'foreign' | 'version' | 'malformed' | 'otherCluster' | 'signature';

/** Bytes of the largest announcement; longer datagrams are not looked at. */
export const announcementBytesMax = 512;

const magic: Uint8Array = utf8Bytes('KMDR');
const formatVersion = 1;
const kinds: readonly Announcement['kind'][] = ['here', 'goodbye'];
const signatureBytes = 32;

export function encodeAnnouncement(
  { cluster, secrets }: AnnouncementGroup,
  announcement: Announcement,
): Uint8Array {
  const writer = new ByteWriter(announcementBytesMax);
  writer.raw(magic);
  writer.uint8(formatVersion);
  writer.uint8(kinds.indexOf(announcement.kind));
  writer.text(cluster);
  writer.text(announcement.nodeId);
  writer.text(announcement.startId);
  writer.text(announcement.endpoint);
  writer.uint53(announcement.stamp);
  const body = writer.finish();
  const [secret] = secrets;
  const bytes = secret === undefined ? body : Buffer.concat([body, signatureOf(secret, body)]);
  assert(bytes.byteLength <= announcementBytesMax, 'an announcement fits its bound');
  return bytes;
}

/** Takes apart what a datagram holds, or says why it is nothing for us. */
export function decodeAnnouncement(
  group: AnnouncementGroup,
  bytes: Uint8Array,
): Announcement | RefusedBytes {
  const isOurs = magic.every((byte, at) => bytes[at] === byte);
  if (!isOurs) return 'foreign';
  if (bytes.byteLength > announcementBytesMax) return 'malformed';
  try {
    return readAnnouncement(group, bytes);
  } catch (error) {
    if (error instanceof MalformedBytesError) return 'malformed';
    throw error;
  }
}

function readAnnouncement(
  { cluster, secrets }: AnnouncementGroup,
  bytes: Uint8Array,
): Announcement | RefusedBytes {
  const bodyEnd = bytes.byteLength - (secrets.length === 0 ? 0 : signatureBytes);
  const reader = new ByteReader(bytes, magic.byteLength);
  if (reader.uint8() !== formatVersion) return 'version';
  const kind = kinds[reader.uint8()];
  // Before the signature: another cluster has other secrets, and is nothing to worry about.
  if (reader.text() !== cluster) return 'otherCluster';
  if (secrets.length > 0 && !isSigned(secrets, bytes, bodyEnd)) return 'signature';
  const nodeId = reader.text();
  const startId = reader.text();
  const endpoint = reader.text();
  const stamp = reader.uint53();
  if (secrets.length === 0 && reader.remaining === signatureBytes) return 'signature';
  const isWhole = reader.at === bodyEnd && kind !== undefined;
  if (!isWhole || !isNodeId(nodeId) || !isStartId(startId) || !isEndpoint(endpoint)) {
    return 'malformed';
  }
  return { kind, nodeId, startId, endpoint, stamp };
}

function isSigned(secrets: readonly string[], bytes: Uint8Array, bodyEnd: number): boolean {
  if (bodyEnd < 0) return false;
  const body = bytes.subarray(0, bodyEnd);
  const signature = bytes.subarray(bodyEnd);
  return secrets.some((secret) => timingSafeEqual(signatureOf(secret, body), signature));
}

function signatureOf(secret: string, body: Uint8Array): Uint8Array {
  return createHmac('sha256', secret).update(body).digest();
}

function isStartId(text: string): boolean {
  return /^[A-Za-z0-9]{1,64}$/.test(text);
}

function isEndpoint(text: string): boolean {
  try {
    parseEndpoint(text, { option: 'endpoint' });
    return true;
  } catch (error) {
    if (isKommanderError(error, 'INVALID_OPTION')) return false;
    throw error;
  }
}

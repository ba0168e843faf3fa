// The peers of a node that is being repaired, over their HTTP API: who they are, which entries they can give, and the
// entries, checked as far as their own bytes go.

import * as v from 'valibot';
import { MalformedBytesError } from '../base/bytes.ts';
import { KommanderError } from '../base/errors.ts';
import { decodeRun, readRunHeader } from '../ports/run.ts';
import type { NodeId } from '../ports/transport.ts';
import type { PartitionId } from '../ports/wal.ts';
import type { Entry, LogIndex } from '../raft/types.ts';
import { withoutSlashes } from './urls.ts';

/** Milliseconds until a request is given up. */
const requestMsMax = 30_000;
/** Bytes of one answer: the largest entry of any setting, and the status of as many partitions as there can be. */
const answerBytesMax = 67_108_864;

/** A running peer, and the entries that it can give: above `compactedIndex`, up to `lastApplied`. */
export interface LogPeer {
  readonly url: string;
  readonly nodeId: NodeId;
  readonly clusterId: string;
  readonly partitions: ReadonlyMap<
    PartitionId,
    { readonly compactedIndex: LogIndex; readonly lastApplied: LogIndex }
  >;
}

const statusSchema = v.object({
  node: v.string(),
  clusterId: v.string(),
  partitions: v.array(
    v.object({ partition: v.number(), compactedIndex: v.number(), lastApplied: v.number() }),
  ),
});

/**
 * The URLs of a list with commas.
 *
 * @throws INVALID_OPTION
 */
export function parsePeerUrls(list: string): string[] {
  return list.split(',').map((text) => {
    if (/^https?:\/\//.test(text) && URL.canParse(text)) return withoutSlashes(text);
    throw new KommanderError(
      `--from: "${text}" is no URL of a node's HTTP API such as http://127.0.0.1:7101`,
      { code: 'INVALID_OPTION', details: { option: 'from', value: text } },
    );
  });
}

/** @throws TRANSPORT_FAILED it does not answer, or not as a node does */
export async function askPeer(url: string): Promise<LogPeer> {
  const { bytes } = await get(`${url}/v1/status`);
  const parsed = v.safeParse(statusSchema, jsonOf(bytes));
  if (!parsed.success) throw noAnswer(url, 'its status is not that of a node');
  const { node, clusterId, partitions } = parsed.output;
  return {
    url,
    nodeId: node,
    clusterId,
    partitions: new Map(partitions.map(({ partition, ...positions }) => [partition, positions])),
  };
}

/**
 * Entries `range.from … range.last` of a partition, in pieces, contiguous, each checked by its checksum.
 *
 * @throws TRANSPORT_FAILED the peer does not answer, is of another cluster by now, or what it sends is damaged
 */
export async function* fetchEntries(
  peer: LogPeer,
  partitionId: PartitionId,
  range: { readonly from: LogIndex; readonly last: LogIndex },
): AsyncGenerator<readonly Entry[]> {
  let from = range.from;
  while (from <= range.last) {
    const path = `/v1/partitions/${partitionId}/log?from=${from}&end=${range.last + 1}`;
    const { headers, bytes } = await get(peer.url + path);
    if (headers.get('kommander-cluster') !== peer.clusterId)
      throw noAnswer(peer.url, 'it belongs to another cluster now');
    const entries = entriesOf(peer.url, bytes);
    for (const entry of entries) {
      if (entry.index !== from || from > range.last)
        throw noAnswer(peer.url, `it sent entry ${entry.index} in place of ${from}`);
      from += 1;
    }
    if (entries.length === 0) throw noAnswer(peer.url, `it sent nothing of entry ${from}`);
    yield entries;
  }
}

function entriesOf(url: string, bytes: Uint8Array): Entry[] {
  try {
    const entries: Entry[] = [];
    for (let at = 0; at < bytes.byteLength; ) {
      const { totalBytes } = readRunHeader(bytes.subarray(at));
      for (const entry of decodeRun(bytes.slice(at, at + totalBytes))) entries.push(entry);
      at += totalBytes;
    }
    return entries;
  } catch (error) {
    if (!(error instanceof MalformedBytesError)) throw error;
    throw noAnswer(url, `its entries are damaged on their way: ${error.message}`);
  }
}

function jsonOf(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    return undefined;
  }
}

/** Throws when it is more than a node would send. */
async function bodyOf(response: Response): Promise<Uint8Array<ArrayBuffer>> {
  const pieces: Uint8Array[] = [];
  let byteLength = 0;
  const body: AsyncIterable<Uint8Array> | readonly Uint8Array[] = response.body ?? [];
  for await (const piece of body) {
    pieces.push(piece);
    byteLength += piece.byteLength;
    if (byteLength > answerBytesMax) throw new Error(`it sends more than ${answerBytesMax} bytes`);
  }
  return new Uint8Array(Buffer.concat(pieces));
}

/** The whole answer: a connection may be lost in the middle of it. */
async function get(
  url: string,
): Promise<{ readonly headers: Headers; readonly bytes: Uint8Array<ArrayBuffer> }> {
  let response: Response;
  let bytes: Uint8Array<ArrayBuffer>;
  try {
    response = await fetch(url, { signal: AbortSignal.timeout(requestMsMax) });
    bytes = await bodyOf(response);
  } catch (error) {
    const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
    throw noAnswer(url, String(cause));
  }
  if (response.ok) return { headers: response.headers, bytes };
  const text = new TextDecoder().decode(bytes.subarray(0, 500));
  throw noAnswer(url, `status ${response.status}: ${text}`);
}

function noAnswer(url: string, reason: string): KommanderError {
  return new KommanderError(`the peer ${url} cannot be asked: ${reason}`, {
    code: 'TRANSPORT_FAILED',
    details: { url },
  });
}

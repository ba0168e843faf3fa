// The route that serves a stretch of a partition's stored log, for a node that is being repaired: committed entries as the
// bytes of runs, each with its checksum. Only what this node has applied, which is stored here and committed.

import { KommanderError } from '../base/errors.ts';
import { encodeRuns } from '../ports/run.ts';
import { badArgument } from './http-errors.ts';
import { logBytesMax } from './http-limits.ts';
import { parseInteger, parseQuery } from './http-request.ts';
import type { Answer, KeyValueService, RouteContext } from './http-routes.ts';

export async function getLog(service: KeyValueService, context: RouteContext): Promise<Answer> {
  const query = parseQuery(context.query, ['from', 'end']);
  const partitionId = Number(context.captured);
  const range = { min: 1, max: Number.MAX_SAFE_INTEGER };
  const fromIndex = parseInteger('from', query.from, range);
  const endIndex = parseInteger('end', query.end, range);
  if (fromIndex === undefined || endIndex === undefined || endIndex <= fromIndex)
    throw badArgument(
      'from',
      '"from" and "end" are needed: the first index, and the one behind the last',
    );
  const status = service.node.status();
  const partition = status.partitions.find((each) => each.partitionId === partitionId);
  if (partition === undefined) {
    throw new KommanderError(`there is no partition ${partitionId}`, {
      code: 'UNKNOWN_PARTITION',
      details: { partitionId },
    });
  }
  const { compactedIndex, lastApplied } = partition;
  if (fromIndex <= compactedIndex || fromIndex > lastApplied) {
    throw new KommanderError(
      `entry ${fromIndex} of partition ${partitionId} is not served: this node has ${compactedIndex + 1} … ${lastApplied}`,
      {
        code: 'INVALID_ARGUMENT',
        details: { argument: 'from', partitionId, compactedIndex, lastApplied },
      },
    );
  }
  const entries = await service.log.read({
    partitionId,
    fromIndex,
    endIndex: Math.min(endIndex, lastApplied + 1),
    bytesMax: logBytesMax,
  });
  return {
    status: 200,
    headers: {
      'kommander-cluster': status.clusterId,
      'kommander-partition': partitionId,
      'kommander-first-index': fromIndex,
      'kommander-last-index': entries.at(-1)?.index ?? fromIndex,
    },
    body: Buffer.concat(encodeRuns(entries)),
  };
}

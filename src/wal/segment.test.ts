// The segment engine: the contract of log stores, on files of the file system and with segments so small that they are
// sealed, recycled and emptied all the time.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { walContract } from '../testing/wal-contract.ts';
import { segmentWal } from './segment.ts';

for (const segmentBytes of [undefined, 65_536]) {
  describe(`segment engine, segments of ${segmentBytes ?? 'the default'} bytes`, () => {
    walContract({ test }, async () => {
      const path = await mkdtemp(join(tmpdir(), 'kommander-segment-'));
      return {
        wal: () => segmentWal({ path, ...(segmentBytes === undefined ? {} : { segmentBytes }) }),
        remove: () => rm(path, { recursive: true, force: true }),
      };
    });
  });
}

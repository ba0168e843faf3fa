// The log stores that keep what they were told, as tests with real processes go through them. A new engine joins here.

import type { Wal } from '../../src/ports/wal.ts';
import { rocksdbWal } from '../../src/wal/rocksdb.ts';
import { segmentWal } from '../../src/wal/segment.ts';
import { sqliteWal } from '../../src/wal/sqlite.ts';

/** By name; each makes a store in the directory `path`. */
export const durableEngines: Readonly<Record<string, (path: string) => Wal>> = {
  rocksdb: (path) => rocksdbWal({ path }),
  segment: (path) => segmentWal({ path }),
  sqlite: (path) => sqliteWal({ path }),
};

// The catalogue of seeded bugs: one list of all sections, and why some hazards have none. `test/mutations.test.ts` keeps
// it honest without applying anything; `npm run mutate` applies it.

import { backupMutations } from './backups.ts';
import { discoveryMutations } from './discovery.ts';
import { electionMutations } from './elections.ts';
import { fullDiskMutations } from './full-disks.ts';
import { hostileByteMutations } from './hostile-bytes.ts';
import { logStoreMutations } from './log-store.ts';
import { machineMutations } from './machines.ts';
import { membershipMutations } from './membership.ts';
import type { Mutation } from './mutation.ts';
import { readMutations } from './reads.ts';
import { registryMutations } from './registries.ts';
import { replicationMutations } from './replication.ts';
import { retentionMutations } from './retention.ts';
import { segmentMutations } from './segments.ts';
import { snapshotMutations } from './snapshots.ts';
import { sqliteMutations } from './sqlite.ts';
import { walToolMutations } from './wal-tools.ts';

export const catalogue: readonly Mutation[] = [
  ...electionMutations,
  ...replicationMutations,
  ...readMutations,
  ...logStoreMutations,
  ...sqliteMutations,
  ...fullDiskMutations,
  ...walToolMutations,
  ...segmentMutations,
  ...snapshotMutations,
  ...machineMutations,
  ...retentionMutations,
  ...membershipMutations,
  ...backupMutations,
  ...hostileByteMutations,
  ...discoveryMutations,
  ...registryMutations,
];

/** The last hazard of the section "Membership and elasticity"; those behind it are of the process around the library. */
export const hazardMax = 54;

/** Hazards for which nothing can be seeded, by number, and why. */
export const unseeded: Readonly<Record<number, string>> = {
  54: 'nothing evicts members today',
};

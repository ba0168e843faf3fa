// Seeded bugs of backups: what makes a copy whole, what is in it, and what keeps the new cluster apart from the old one.

import type { Mutation } from './mutation.ts';

const simulator = { blind: 'nobody takes backups of simulated clusters' } as const;
const tests = ['test/host/backup.test.ts', 'test/host/backup-restore.test.ts'] as const;

export const backupMutations: readonly Mutation[] = [
  {
    id: 'backup-checksum-not-compared',
    hazards: [40],
    edits: [
      {
        file: 'src/host/backup-directory.ts',
        find: 'sums.byteLength === expected.byteLength && sums.sha256 === expected.sha256) return;',
        replace: 'sums.byteLength === expected.byteLength) return;',
      },
    ],
    says: 'Damage in a copy of a state is not noticed: neither on its way nor when it is restored.',
    tests,
    simulator,
  },
  {
    id: 'backup-written-in-place',
    hazards: [47],
    edits: [
      {
        file: 'src/host/backup-directory.ts',
        // biome-ignore lint/suspicious/noTemplateCurlyInString: the source's own text
        find: 'const draft = `${path}.draft`;',
        replace: 'const draft = path;',
      },
    ],
    says: 'A backup has its name before it is whole: one that was interrupted looks like any other.',
    tests,
    simulator,
  },
  {
    id: 'backup-draft-taken-for-whole',
    hazards: [47],
    edits: [
      {
        file: 'src/host/backup-directory.ts',
        find: "if (basename(path).endsWith('.draft')) {",
        replace: "if (basename(path) === '.draft') {",
      },
    ],
    says: 'What an interrupted backup left is restored.',
    tests,
    simulator,
  },
  {
    id: 'backup-of-what-is-applied',
    hazards: [29],
    edits: [
      {
        file: 'src/host/backup.ts',
        find: '.map((partitionId) => read(partitionId)));',
        replace: '.map(() => undefined));',
      },
    ],
    says: 'A backup of a follower that is behind lacks what was acknowledged before.',
    tests,
    simulator,
  },
  {
    id: 'backup-loses-its-snapshot',
    hazards: [47],
    edits: [
      {
        file: 'src/host/snapshots.ts',
        find: 'holdSnapshot(partition, storedName(snapshot.data));\n  wanted.wait.succeed(snapshot);',
        replace: 'wanted.wait.succeed(snapshot);',
      },
    ],
    says: 'A snapshot is removed while a backup copies it.',
    tests,
    simulator,
  },
  {
    id: 'backup-does-not-hold-the-log',
    hazards: [42],
    edits: [
      {
        file: 'src/host/backup.ts',
        find: "fromIndex: range.fromIndex, owner: 'backup' });",
        replace: "fromIndex: range.endIndex, owner: 'backup' });",
      },
    ],
    says: 'A log is compacted while a backup copies it.',
    tests,
    simulator,
  },
  {
    id: 'restored-cluster-keeps-the-id',
    hazards: [13],
    edits: [
      {
        file: 'src/host/genesis.ts',
        find: "return (origin === undefined ? hash : hash.update(origin)).digest('hex');",
        replace: "return hash.digest('hex');",
      },
    ],
    says: 'A restored cluster has the id of the old one: nodes of both believe each other.',
    tests: ['src/host/genesis.test.ts', ...tests],
    simulator,
  },
  {
    id: 'restored-half-is-opened',
    hazards: [47],
    edits: [
      {
        file: 'src/host/meta.ts',
        find: 'if (!meta.has(metaKeys.restoring)) return;',
        replace: "if (!meta.has('')) return;",
      },
    ],
    says: 'A node starts on a directory whose restore was interrupted: an empty cluster takes the place of the data.',
    tests,
    simulator,
  },
  {
    id: 'restored-over-a-node',
    hazards: [36],
    edits: [
      {
        file: 'src/host/backup-restore.ts',
        find: 'if (!isEmpty) throw',
        replace: 'if (isEmpty && !isEmpty) throw',
      },
    ],
    says: 'A backup is restored into the store of a node that has data.',
    tests,
    simulator,
  },
  {
    id: 'restored-with-old-members',
    hazards: [12],
    edits: [
      {
        file: 'src/host/backup-restore.ts',
        find: 'if (entry.kind !== EntryKind.confChange) return entry;',
        replace: 'if (entry.index > 0) return entry;',
      },
    ],
    says: "A restored log changes the new cluster's members as the old one's were changed.",
    tests,
    simulator,
  },
  {
    id: 'backup-manifest-not-checked',
    hazards: [40],
    edits: [
      {
        file: 'src/host/backup-format.ts',
        find: 'if (text !== content + sealOf(content))',
        replace: 'if (text === content + sealOf(content).slice(1))',
      },
    ],
    says: 'A changed manifest of a backup is believed: indexes and timestamps of the new cluster may begin below the old ones.',
    tests,
    simulator,
  },
];

// The printed form of what a leader knows of its followers, in the words of the data files.

import { isFull } from '../../src/raft/inflights.ts';
import type { Progress, ProgressState } from '../../src/raft/progress.ts';
import { isHeldBack } from '../../src/raft/progress.ts';
import type { ReplicaId } from '../../src/raft/types.ts';

const stateNames: Readonly<Record<ProgressState, string>> = {
  probe: 'StateProbe',
  replicate: 'StateReplicate',
  snapshot: 'StateSnapshot',
};

export function describeProgressMap(map: ReadonlyMap<ReplicaId, Progress>): string {
  const ids = [...map.keys()].sort((a, b) => a - b);
  return ids.map((id) => `${id}: ${describeProgress(map.get(id))}\n`).join('');
}

function describeProgress(progress: Progress | undefined): string {
  if (progress === undefined) return '';
  const { inflights } = progress;
  const isWindowFull = isFull(inflights) ? '[full]' : '';
  const parts = [
    stateNames[progress.state],
    `match=${progress.matchIndex}`,
    `next=${progress.nextIndex}`,
    progress.isLearner ? 'learner' : '',
    isHeldBack(progress) ? 'paused' : '',
    progress.snapshotIndex === undefined ? '' : `pendingSnap=${progress.snapshotIndex}`,
    progress.isRecentlyActive ? '' : 'inactive',
    inflights.count === 0 ? '' : `inflight=${inflights.count}${isWindowFull}`,
  ];
  return parts.filter((part) => part !== '').join(' ');
}

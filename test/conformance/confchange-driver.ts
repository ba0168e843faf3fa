// Replays the files about membership arithmetic: `simple`, `enter-joint` and `leave-joint` over one configuration, with
// the progress that a leader would keep for each member.

import type { SingleChange } from '../../src/raft/conf-change.ts';
import {
  ConfChangeError,
  changeSimple,
  enterJoint,
  leaveJoint,
  membersOf,
} from '../../src/raft/membership.ts';
import { newProgress, type Progress } from '../../src/raft/progress.ts';
import {
  type ConfState,
  emptyConfState,
  type LogIndex,
  type ReplicaId,
} from '../../src/raft/types.ts';
import { DirectiveError, keyedArguments, parseFlag, singleValue } from './arguments.ts';
import { parseChanges } from './changes.ts';
import type { Directive } from './data-file.ts';
import { describeProgressMap } from './describe-progress.ts';

export function openConfChangeDriver(): (directive: Directive) => string {
  let conf: ConfState = emptyConfState;
  let progress: ReadonlyMap<ReplicaId, Progress> = new Map();
  let lastIndex = -1;
  return (directive) => {
    // Every command stands for one more entry in the leader's log, so that its place shows in the members' progress.
    lastIndex += 1;
    try {
      conf = nextConfiguration(conf, directive);
    } catch (error) {
      if (error instanceof ConfChangeError) return `${error.message}\n`;
      throw error;
    }
    progress = nextProgress({ conf, progress, lastIndex });
    return `${describeConfiguration(conf)}\n${describeProgressMap(progress)}`;
  };
}

function nextConfiguration(conf: ConfState, directive: Directive): ConfState {
  const changes = parseChanges(directive.input);
  switch (directive.command) {
    case 'simple':
      keyedArguments(directive, []);
      return changeSimple(conf, changes);
    case 'enter-joint':
      return enterJoint(conf, changes, autoLeaveOf(directive));
    case 'leave-joint':
      return leaveJoint(checkNoChanges(conf, changes));
    default:
      throw new DirectiveError(`unknown command "${directive.command}"`);
  }
}

function checkNoChanges(conf: ConfState, changes: readonly SingleChange[]): ConfState {
  if (changes.length > 0) throw new DirectiveError('this command takes no input');
  return conf;
}

function autoLeaveOf(directive: Directive): boolean {
  const [arg] = keyedArguments(directive, ['autoleave']);
  return arg === undefined ? false : parseFlag(singleValue(arg));
}

function nextProgress(options: {
  readonly conf: ConfState;
  readonly progress: ReadonlyMap<ReplicaId, Progress>;
  readonly lastIndex: LogIndex;
}): Map<ReplicaId, Progress> {
  const { conf, progress, lastIndex } = options;
  const next = new Map<ReplicaId, Progress>();
  for (const id of membersOf(conf)) {
    const isLearner = conf.learners.includes(id);
    const known = progress.get(id);
    if (known !== undefined) known.isLearner = isLearner;
    next.set(id, known ?? freshProgress(lastIndex, isLearner));
  }
  return next;
}

function freshProgress(lastIndex: LogIndex, isLearner: boolean): Progress {
  return newProgress({
    nextIndex: Math.max(lastIndex, 1),
    isLearner,
    isRecentlyActive: true,
    inflightMessagesMax: 10,
    inflightBytesMax: Number.POSITIVE_INFINITY,
  });
}

function describeConfiguration(conf: ConfState): string {
  const list = (ids: readonly ReplicaId[]): string => `(${ids.join(' ')})`;
  const outgoing = conf.votersOutgoing.length > 0 ? `&&${list(conf.votersOutgoing)}` : '';
  let text = `voters=${list(conf.voters)}${outgoing}`;
  if (conf.learners.length > 0) text += ` learners=${list(conf.learners)}`;
  if (conf.learnersNext.length > 0) text += ` learners_next=${list(conf.learnersNext)}`;
  return conf.autoLeave ? `${text} autoleave` : text;
}

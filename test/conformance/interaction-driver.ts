// Replays the files about whole cores: reads a directive's arguments and plays it on a cluster (cluster.ts, wishes.ts, turns.ts). Which
// directive prints what follows the data files; what a core does is decided in src/raft only.

import { type SingleChange, Transition } from '../../src/raft/conf-change.ts';
import type { ReplicaId } from '../../src/raft/types.ts';
import {
  bareNumbers,
  DirectiveError,
  firstReplica,
  keyedArguments,
  onlyNumbers,
  parseCount,
  parseFlag,
  singleValue,
} from './arguments.ts';
import { parseChanges } from './changes.ts';
import {
  addNodes,
  type Cluster,
  checkCluster,
  defaultNodeOptions,
  type NodeOptions,
  newCluster,
} from './cluster.ts';
import type { Argument, Directive } from './data-file.ts';
import { indented, print } from './output.ts';
import {
  deliverMessages,
  processAppendWork,
  processApplyWork,
  processReady,
  type Recipient,
  stabilize,
} from './turns.ts';
import {
  campaignAt,
  compactAt,
  forgetLeaderAt,
  proposeAt,
  proposeChangeAt,
  queueSnapshot,
  reportUnreachableAt,
  setElectionTimeout,
  showLog,
  showProgress,
  showStates,
  tickAt,
  transferLeadershipAt,
} from './wishes.ts';

type Play = (cluster: Cluster, directive: Directive) => void;

const plays: Readonly<Record<string, Play>> = {
  'add-nodes': playAddNodes,
  campaign: onOneReplica(campaignAt),
  compact: (cluster, directive) => {
    const [id = 0, index = 0] = onlyNumbers(directive, 2);
    compactAt(cluster, id, index);
  },
  'deliver-msgs': playDeliverMessages,
  'forget-leader': onOneReplica(forgetLeaderAt),
  'log-level': playLogLevel,
  'process-append-thread': onReplicas('processing append thread', processAppendWork),
  'process-apply-thread': onReplicas('processing apply thread', processApplyWork),
  'process-ready': onReplicas('handling Ready', processReady),
  propose: playPropose,
  'propose-conf-change': playProposeConfChange,
  'raft-log': onOneReplica(showLog),
  'raft-state': (cluster, directive) => {
    onlyNumbers(directive, 0);
    showStates(cluster);
  },
  'report-unreachable': (cluster, directive) => {
    const [id = 0, peer = 0] = onlyNumbers(directive, 2);
    reportUnreachableAt(cluster, id, peer);
  },
  'send-snapshot': (cluster, directive) => {
    const [from = 0, to = 0] = onlyNumbers(directive, 2);
    queueSnapshot(cluster, from, to);
  },
  'set-randomized-election-timeout': (cluster, directive) => {
    const [timeout] = keyedArguments(directive, ['timeout']);
    if (timeout === undefined) throw new DirectiveError('timeout= is missing');
    setElectionTimeout(cluster, firstReplica(directive), parseCount(singleValue(timeout)));
  },
  stabilize: playStabilize,
  status: onOneReplica(showProgress),
  'tick-election': onOneReplica((cluster, id) => tickAt(cluster, id, 'election')),
  'tick-heartbeat': onOneReplica((cluster, id) => tickAt(cluster, id, 'heartbeat')),
  'transfer-leadership': playTransferLeadership,
};

/**
 * @param options `trimsLogs`: cores drop their copies of entries as soon as they may. What they print must not depend
 *   on it.
 */
export function openInteractionDriver(
  options: { readonly trimsLogs: boolean } = { trimsLogs: true },
): (directive: Directive) => string {
  const cluster = newCluster(options);
  return (directive) => {
    const { output } = cluster;
    output.text = '';
    try {
      const play = plays[directive.command];
      if (play === undefined) throw new DirectiveError(`unknown command "${directive.command}"`);
      play(cluster, directive);
      checkCluster(cluster);
    } catch (error) {
      // Errors are printed whatever the log level is.
      if (error instanceof DirectiveError) return `${output.text}${error.message}`;
      throw error;
    }
    return output.text === '' ? 'ok' : output.text;
  };
}

function onOneReplica(play: (cluster: Cluster, id: ReplicaId) => void): Play {
  return (cluster, directive) => {
    const [id = 0] = onlyNumbers(directive, 1);
    play(cluster, id);
  };
}

/** With several replicas each one's output gets a heading and is indented. */
function onReplicas(heading: string, play: (cluster: Cluster, id: ReplicaId) => void): Play {
  return (cluster, directive) => {
    keyedArguments(directive, []);
    const ids = bareNumbers(directive);
    const [only] = ids;
    if (only !== undefined && ids.length === 1) return play(cluster, only);
    for (const id of ids) {
      print(cluster.output, `> ${id} ${heading}\n`);
      indented(cluster.output, () => play(cluster, id));
    }
  };
}

function playAddNodes(cluster: Cluster, directive: Directive): void {
  const count = firstReplica(directive);
  const options = { ...defaultNodeOptions };
  for (const arg of keyedArguments(directive, Object.keys(nodeArguments))) {
    nodeArguments[arg.key]?.(options, arg);
  }
  addNodes(cluster, count, options);
}

type MutableNodeOptions = { -readonly [Key in keyof NodeOptions]: NodeOptions[Key] };

const flag =
  (set: (options: MutableNodeOptions, value: boolean) => void) =>
  (options: MutableNodeOptions, arg: Argument): void =>
    set(options, parseFlag(singleValue(arg)));
const count =
  (set: (options: MutableNodeOptions, value: number) => void) =>
  (options: MutableNodeOptions, arg: Argument): void =>
    set(options, parseCount(singleValue(arg)));

const nodeArguments: Readonly<
  Record<string, (options: MutableNodeOptions, arg: Argument) => void>
> = {
  voters: (options, arg) => {
    options.voters = arg.values.map(parseCount);
  },
  learners: (options, arg) => {
    options.learners = arg.values.map(parseCount);
  },
  index: count((options, value) => {
    options.index = value;
  }),
  content: (options, arg) => {
    options.content = singleValue(arg);
  },
  inflight: count((options, value) => {
    options.inflightMessagesMax = value;
  }),
  'max-inflight-bytes': count((options, value) => {
    options.inflightBytesMax = value;
  }),
  'max-committed-size-per-ready': count((options, value) => {
    options.applyingBytesMax = value;
  }),
  'async-storage-writes': flag((options, value) => {
    options.asyncStorageWrites = value;
  }),
  prevote: flag((options, value) => {
    options.preVote = value;
  }),
  checkquorum: flag((options, value) => {
    options.checkQuorum = value;
  }),
  'disable-conf-change-validation': flag((options, value) => {
    options.confChangeValidation = !value;
  }),
  'step-down-on-removal': flag((options, value) => {
    options.stepDownOnRemoval = value;
  }),
  'read-only': (options, arg) => {
    const value = singleValue(arg);
    if (value === 'safe') options.reads = 'safe';
    else if (value === 'lease-based') options.reads = 'lease';
    else throw new DirectiveError(`"${value}" is no kind of read`);
  },
};

function playPropose(cluster: Cluster, directive: Directive): void {
  const [, content, ...others] = directive.args;
  if (content === undefined || content.values.length > 0 || others.length > 0) {
    throw new DirectiveError('propose takes a replica and one word of content');
  }
  proposeAt(cluster, firstReplica(directive), content.key);
}

const transitions: Readonly<Record<string, Transition>> = {
  auto: Transition.auto,
  implicit: Transition.jointImplicit,
  explicit: Transition.jointExplicit,
};

function playProposeConfChange(cluster: Cluster, directive: Directive): void {
  const id = firstReplica(directive);
  const changes = parseChanges(directive.input);
  let isFormatOne = false;
  let transition: Transition = Transition.auto;
  for (const arg of keyedArguments(directive, ['v1', 'transition'])) {
    if (arg.key === 'v1') isFormatOne = parseFlag(singleValue(arg));
    else transition = parseTransition(singleValue(arg));
  }
  if (isFormatOne) checkFormatOne(changes, transition);
  proposeChangeAt(cluster, id, { changes, transition, isFormatOne });
}

function parseTransition(text: string): Transition {
  const transition = transitions[text];
  if (transition === undefined) throw new DirectiveError(`"${text}" is no transition`);
  return transition;
}

function checkFormatOne(changes: readonly SingleChange[], transition: Transition): void {
  if (changes.length > 1 || transition !== Transition.auto) {
    throw new DirectiveError('v1 conf change can only have one operation and no transition');
  }
  if (changes.length === 0) throw new DirectiveError('a v1 conf change has one operation');
}

function playDeliverMessages(cluster: Cluster, directive: Directive): void {
  const recipients: Recipient[] = [];
  let typeName: string | undefined;
  for (const { key, values } of directive.args) {
    if (values.length === 0) recipients.push({ id: parseCount(key), isDropped: false });
    else if (key === 'drop') {
      for (const value of values) recipients.push({ id: parseCount(value), isDropped: true });
    } else if (key === 'type') typeName = singleValue({ key, values });
    else throw new DirectiveError(`deliver-msgs has no argument "${key}"`);
  }
  for (const { id, isDropped } of recipients) {
    const isAmbiguous = recipients.some(
      (other) => other.id === id && other.isDropped !== isDropped,
    );
    if (isAmbiguous) throw new DirectiveError(`can't both deliver and drop msgs to ${id}`);
  }
  const deliveredCount = deliverMessages(cluster, recipients, typeName);
  if (deliveredCount === 0) print(cluster.output, 'no messages\n');
}

function playStabilize(cluster: Cluster, directive: Directive): void {
  const { output } = cluster;
  const wasQuiet = output.isQuiet;
  const [level] = keyedArguments(directive, ['log-level']);
  if (level !== undefined) output.isQuiet = isQuietLevel(singleValue(level));
  try {
    stabilize(cluster, bareNumbers(directive));
  } finally {
    output.isQuiet = wasQuiet;
  }
}

function playLogLevel(cluster: Cluster, directive: Directive): void {
  const [level, ...others] = directive.args;
  if (level === undefined || level.values.length > 0 || others.length > 0) {
    throw new DirectiveError('log-level takes one level');
  }
  cluster.output.isQuiet = isQuietLevel(level.key);
}

const logLevels: readonly string[] = ['DEBUG', 'INFO', 'WARN', 'ERROR', 'FATAL', 'NONE'];

/** The levels between differ in log lines only, and this project's core prints none. */
function isQuietLevel(name: string): boolean {
  const level = name.toUpperCase();
  if (!logLevels.includes(level)) {
    throw new DirectiveError(`log levels must be either of [${logLevels.join(' ')}]`);
  }
  return level === 'NONE';
}

function playTransferLeadership(cluster: Cluster, directive: Directive): void {
  const args = keyedArguments(directive, ['from', 'to']);
  const numberOf = (key: string): number => {
    const arg = args.find((other) => other.key === key);
    if (arg === undefined) throw new DirectiveError(`${key}= is missing`);
    return parseCount(singleValue(arg));
  };
  transferLeadershipAt(cluster, numberOf('from'), numberOf('to'));
}

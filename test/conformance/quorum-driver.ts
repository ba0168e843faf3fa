// Replays the files about quorum arithmetic: `committed` and `vote` over a majority or a joint configuration.

import { quorumIndex, type VoterSets, voteResult } from '../../src/raft/quorum.ts';
import type { LogIndex, ReplicaId } from '../../src/raft/types.ts';
import { DirectiveError, keyedArguments, parseCount } from './arguments.ts';
import type { Argument, Directive } from './data-file.ts';

interface Question {
  readonly sets: VoterSets;
  /** What is known of each voter; absent when the file says "_". */
  readonly values: ReadonlyMap<ReplicaId, string>;
}

const voteNames = { won: 'VoteWon', lost: 'VoteLost', pending: 'VotePending' } as const;

export function openQuorumDriver(): (directive: Directive) => string {
  return (directive) => {
    switch (directive.command) {
      case 'committed':
        return answerCommitted(readQuestion(directive, 'idx'));
      case 'vote':
        return answerVote(readQuestion(directive, 'votes'));
      default:
        throw new DirectiveError(`unknown command "${directive.command}"`);
    }
  };
}

function answerCommitted({ sets, values }: Question): string {
  const indexes = new Map<ReplicaId, LogIndex>();
  for (const [id, value] of values) {
    // The files do not tell "nothing known" and "known to be 0" apart.
    if (parseCount(value) > 0) indexes.set(id, parseCount(value));
  }
  const matchIndexOf = (id: ReplicaId): LogIndex => indexes.get(id) ?? 0;
  const index = quorumIndex(sets, matchIndexOf);
  const swapped = quorumIndex(
    { voters: sets.votersOutgoing, votersOutgoing: sets.voters },
    matchIndexOf,
  );
  const chart = drawIndexes(allVoters(sets), indexes);
  const complaint =
    sets.votersOutgoing.length > 0 && swapped !== index
      ? `${swapped} <-- with halves swapped\n`
      : '';
  return `${chart}${complaint}${Number.isFinite(index) ? index : '∞'}\n`;
}

function answerVote({ sets, values }: Question): string {
  const votes = new Map<ReplicaId, boolean>();
  for (const [id, value] of values) votes.set(id, parseVote(value));
  const result = voteResult(sets, votes);
  const swapped = voteResult({ voters: sets.votersOutgoing, votersOutgoing: sets.voters }, votes);
  const complaint = swapped === result ? '' : `${voteNames[swapped]} <-- with halves swapped\n`;
  return `${complaint}${voteNames[result]}\n`;
}

function parseVote(text: string): boolean {
  if (text === 'y') return true;
  if (text === 'n') return false;
  throw new DirectiveError(`"${text}" is no vote`);
}

/** Values are listed in the order in which voters first appear, without repetition; "_" stands for unknown. */
function readQuestion(directive: Directive, valuesKey: 'idx' | 'votes'): Question {
  const args = keyedArguments(directive, ['cfg', 'cfgj', valuesKey]);
  const valuesOf = (key: string): readonly string[] =>
    args.find((arg) => arg.key === key)?.values ?? [];
  const sets = {
    voters: readVoters(args.find((arg) => arg.key === 'cfg')),
    votersOutgoing: readVoters(args.find((arg) => arg.key === 'cfgj')),
  };
  const ids = [...new Set([...sets.voters, ...sets.votersOutgoing])];
  const texts = valuesOf(valuesKey);
  if (texts.length !== ids.length) {
    const shown = `voters (${ids.join(' ')}), values (${texts.join(' ')})`;
    throw new DirectiveError(`error: one value or _ for each voter is needed: ${shown}`);
  }
  const values = new Map<ReplicaId, string>();
  for (const [at, id] of ids.entries()) {
    const text = texts[at];
    if (text !== undefined && text !== '_') values.set(id, text);
  }
  return { sets, values };
}

function readVoters(arg: Argument | undefined): ReplicaId[] {
  if (arg === undefined || (arg.values.length === 1 && arg.values[0] === 'zero')) return [];
  return arg.values.map(parseCount);
}

function allVoters(sets: VoterSets): ReplicaId[] {
  return [...new Set([...sets.voters, ...sets.votersOutgoing])].sort((a, b) => a - b);
}

/** One line a voter: as many "x" as there are voters with a smaller index, then its index. */
function drawIndexes(
  voters: readonly ReplicaId[],
  indexes: ReadonlyMap<ReplicaId, LogIndex>,
): string {
  if (voters.length === 0) return '<empty majority quorum>';
  const lines = voters.map((id) => {
    const index = indexes.get(id);
    const behindCount = voters.filter((other) => (indexes.get(other) ?? 0) < (index ?? 0)).length;
    const bar = index === undefined ? '?' : `${'x'.repeat(behindCount)}>`;
    const number = String(index ?? 0).padStart(5);
    return `${bar.padEnd(voters.length + 1)} ${number}    (id=${id})\n`;
  });
  return `${' '.repeat(voters.length)}    idx\n${lines.join('')}`;
}

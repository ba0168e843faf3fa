// The data files' short form of membership changes: `v1` makes 1 a voter, `l1` a learner, `r1` removes and `u1` updates.

import { ConfChangeKind, type SingleChange } from '../../src/raft/conf-change.ts';
import { DirectiveError, parseCount } from './arguments.ts';

const kinds: Readonly<Record<string, ConfChangeKind>> = {
  v: ConfChangeKind.addVoter,
  l: ConfChangeKind.addLearner,
  r: ConfChangeKind.remove,
  u: ConfChangeKind.update,
};

/** `text` is a list of changes, separated by white space. */
export function parseChanges(text: string): SingleChange[] {
  return text
    .split(/\s+/)
    .filter((token) => token !== '')
    .map(parseChange);
}

function parseChange(token: string): SingleChange {
  const kind = kinds[token.slice(0, 1)];
  if (kind === undefined) throw new DirectiveError(`"${token}" is no membership change`);
  return { kind, replica: parseCount(token.slice(1)) };
}

// The printed form of what a core hands out, in the words of the data files: messages, entries, hard state, snapshots,
// a whole `Ready`. Storage requests of the asynchronous mode are printed as messages to two local threads.

import { unreachable } from '../../src/base/assert.ts';
import {
  type ConfChange,
  ConfChangeKind,
  decodeConfChange,
  leaveJointChange,
} from '../../src/raft/conf-change.ts';
import type { Ready, SoftState } from '../../src/raft/ready.ts';
import {
  type ConfState,
  type Entry,
  EntryKind,
  type HardState,
  type LogIndex,
  type PeerMessage,
  payloadOf,
  Role,
  type Snapshot,
  type Term,
} from '../../src/raft/types.ts';

/** A message as the data files see it: one shape for all types, absent fields are not printed. */
export interface Picture {
  readonly from: string;
  readonly to: string;
  readonly name: string;
  readonly term: Term;
  readonly logTerm: Term;
  readonly index: LogIndex;
  readonly rejectHint?: LogIndex | undefined;
  readonly commit?: LogIndex | undefined;
  readonly vote?: number | undefined;
  readonly entries?: readonly Entry[];
  readonly snapshot?: Snapshot | undefined;
  readonly responses?: readonly Picture[];
}

/** Marks, in `ConfChange.context`, a change that was proposed in the original's first format. */
export const formatOneMark: Uint8Array = new Uint8Array([1]);

const roleNames: Readonly<Record<Role, string>> = {
  [Role.follower]: 'StateFollower',
  [Role.preCandidate]: 'StatePreCandidate',
  [Role.candidate]: 'StateCandidate',
  [Role.leader]: 'StateLeader',
};

export function describeRole(role: Role): string {
  return roleNames[role];
}

export function describePicture(picture: Picture, indent = ''): string {
  const { from, to, name, term, logTerm, index, rejectHint, commit, vote } = picture;
  let text = `${indent}${from}->${to} ${name} Term:${term} Log:${logTerm}/${index}`;
  if (rejectHint !== undefined) text += ` Rejected (Hint: ${rejectHint})`;
  if (commit !== undefined && commit !== 0) text += ` Commit:${commit}`;
  if (vote !== undefined) text += ` Vote:${vote}`;
  text += describeEntryList(picture.entries ?? [], indent);
  if (picture.snapshot !== undefined) {
    text += `\n${indent}  Snapshot: ${describeSnapshot(picture.snapshot)}`;
  }
  const responses = picture.responses ?? [];
  if (responses.length > 0) {
    const lines = responses.map((response) => describePicture(response, `${indent}  `));
    text += ` Responses:[\n${lines.join('\n')}\n${indent}]`;
  }
  return text;
}

function describeEntryList(entries: readonly Entry[], indent: string): string {
  const [first] = entries;
  if (first === undefined) return '';
  if (entries.length === 1) return ` Entries:[${describeEntry(first)}]`;
  const lines = entries.map((entry) => `${indent}  ${describeEntry(entry)}`);
  return ` Entries:[\n${lines.join('\n')}\n${indent}]`;
}

export function describeEntry(entry: Entry): string {
  const position = `${entry.term}/${entry.index}`;
  if (entry.kind === EntryKind.normal) {
    return `${position} EntryNormal ${quote(payloadOf(entry))}`;
  }
  const change = confChangeOf(entry);
  const name = isFormatOne(change) ? 'EntryConfChange' : 'EntryConfChangeV2';
  const changes = change.changes.map(({ kind, replica }) => `${changeLetters[kind]}${replica}`);
  return [position, name, ...changes].join(' ');
}

const changeLetters: Readonly<Record<ConfChangeKind, string>> = {
  [ConfChangeKind.addVoter]: 'v',
  [ConfChangeKind.addLearner]: 'l',
  [ConfChangeKind.remove]: 'r',
  [ConfChangeKind.update]: 'u',
};

/** The change that an entry of kind `confChange` carries; the leader's own wish to leave has no payload. */
export function confChangeOf(entry: Entry): ConfChange {
  return entry.start === entry.end ? leaveJointChange : decodeConfChange(payloadOf(entry));
}

function isFormatOne(change: ConfChange): boolean {
  return change.context.byteLength === 1 && change.context[0] === formatOneMark[0];
}

function describeHardState({ term, votedFor, commitIndex }: HardState): string {
  const vote = votedFor === undefined ? '' : ` Vote:${votedFor}`;
  return `Term:${term}${vote} Commit:${commitIndex}`;
}

function describeSoftState({ leader, role }: SoftState): string {
  return `Lead:${leader ?? 0} State:${describeRole(role)}`;
}

function describeSnapshot({ index, term, confState }: Snapshot): string {
  return `Index:${index} Term:${term} ConfState:${describeConfState(confState)}`;
}

function describeConfState(state: ConfState): string {
  return [
    `Voters:[${state.voters.join(' ')}]`,
    `VotersOutgoing:[${state.votersOutgoing.join(' ')}]`,
    `Learners:[${state.learners.join(' ')}]`,
    `LearnersNext:[${state.learnersNext.join(' ')}]`,
    `AutoLeave:${state.autoLeave}`,
  ].join(' ');
}

/** `messages` are the pictures of everything that leaves with this `Ready`, storage requests included. */
export function describeReady(ready: Ready, messages: readonly Picture[]): string {
  const lines: string[] = [];
  if (ready.softState !== undefined) lines.push(describeSoftState(ready.softState));
  if (ready.hardState !== undefined) lines.push(`HardState ${describeHardState(ready.hardState)}`);
  if (ready.readStates.length > 0) {
    const states = ready.readStates.map(({ index, context }) => `{${index} ${context}}`);
    lines.push(`ReadStates [${states.join(' ')}]`);
  }
  if (ready.entries.length > 0) lines.push('Entries:', ...ready.entries.map(describeEntry));
  if (ready.snapshot !== undefined) lines.push(`Snapshot ${describeSnapshot(ready.snapshot)}`);
  if (ready.committedEntries.length > 0) {
    lines.push('CommittedEntries:', ...ready.committedEntries.map(describeEntry));
  }
  if (messages.length > 0) {
    lines.push('Messages:', ...messages.map((message) => describePicture(message)));
  }
  if (lines.length === 0) return '<empty Ready>';
  return `Ready MustSync=${ready.mustSync}:\n${lines.join('\n')}\n`;
}

/** The picture of a message between replicas. */
export function pictureOf(message: PeerMessage): Picture {
  const { term } = message;
  const envelope = { from: String(message.from), to: String(message.to), term };
  const plain = { ...envelope, logTerm: 0, index: 0 };
  switch (message.type) {
    case 'appendEntries':
      return {
        ...envelope,
        name: 'MsgApp',
        logTerm: message.prevLogTerm,
        index: message.prevLogIndex,
        commit: message.leaderCommit,
        entries: message.entries,
      };
    case 'appendEntriesResponse':
      return {
        ...envelope,
        name: 'MsgAppResp',
        logTerm: message.hintTerm,
        index: message.index,
        rejectHint: message.rejected ? message.hintIndex : undefined,
      };
    case 'requestVote':
      return {
        ...envelope,
        name: message.preVote ? 'MsgPreVote' : 'MsgVote',
        logTerm: message.lastLogTerm,
        index: message.lastLogIndex,
      };
    case 'requestVoteResponse':
      return {
        ...plain,
        name: message.preVote ? 'MsgPreVoteResp' : 'MsgVoteResp',
        rejectHint: message.rejected ? 0 : undefined,
      };
    case 'heartbeat':
      return { ...plain, name: 'MsgHeartbeat', commit: message.leaderCommit };
    case 'heartbeatResponse':
      return { ...plain, name: 'MsgHeartbeatResp' };
    case 'installSnapshot':
      return { ...plain, name: 'MsgSnap', snapshot: message.snapshot };
    case 'timeoutNow':
      return { ...plain, name: 'MsgTimeoutNow' };
    case 'transferLeadership':
      // The original names the transferee as the sender, also when another follower passes the wish on.
      return { ...plain, name: 'MsgTransferLeader', from: String(message.transferee) };
    case 'readIndex':
      // The original sends these two without a term.
      return { ...plain, term: 0, name: 'MsgReadIndex' };
    case 'readIndexResponse':
      return { ...plain, name: 'MsgReadIndexResp', index: message.index };
    default:
      return unreachable(message);
  }
}

/** Quoted like a Go string literal: what is not printable ASCII or valid UTF-8 is escaped. */
function quote(bytes: Uint8Array): string {
  const text = decodeUtf8(bytes);
  if (text === undefined) return `"${Array.from(bytes, quoteByte).join('')}"`;
  return `"${Array.from(text, quoteCharacter).join('')}"`;
}

function decodeUtf8(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (error) {
    if (error instanceof TypeError) return undefined;
    throw error;
  }
}

const escapes: Readonly<Record<string, string>> = {
  '"': '\\"',
  '\\': '\\\\',
  '\u0007': '\\a',
  '\b': '\\b',
  '\f': '\\f',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\v': '\\v',
};

function quoteCharacter(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  return escapes[character] ?? (code < 0x20 || code === 0x7f ? quoteCode(code) : character);
}

function quoteByte(byte: number): string {
  return byte < 0x80 ? quoteCharacter(String.fromCharCode(byte)) : quoteCode(byte);
}

function quoteCode(code: number): string {
  return `\\x${code.toString(16).padStart(2, '0')}`;
}

// How the outbox becomes a `Ready`, and what happens when the host says that it is done. Both storage modes are made
// of the same pieces: in asynchronous mode the answers to storage work come back through `step`, in synchronous mode
// `advance` steps them.

import { assert } from '../base/assert.ts';
import {
  committedEntries,
  entryBytesOf,
  hasCommittedEntries,
  hasUnstableEntries,
  lastTerm,
  noteApplying,
  noteHanded,
  unstoredEntries,
} from './log.ts';
import type { Ready, StorageAppend } from './ready.ts';
import { Code, recordPlain } from './recording.ts';
import { hardStateOf, type RaftState } from './state.ts';
import type {
  Entry,
  HardState,
  Message,
  Snapshot,
  StorageAppended,
  StorageApplied,
} from './types.ts';

/** Whether the host has something to do. */
export function hasReady(state: RaftState): boolean {
  const { log } = state;
  return (
    state.messages.length > 0 ||
    state.messagesAfterAppend.length > 0 ||
    log.handedIndex < log.lastIndex ||
    state.readStates.length > 0 ||
    hasCommittedEntries(log, !state.config.asyncStorageWrites) ||
    hasHardStateChanged(state) ||
    hasSoftStateChanged(state) ||
    snapshotToHand(state) !== undefined
  );
}

/** Takes everything that is to be done. Nothing of it is given out a second time. */
export function takeReady(state: RaftState): Ready {
  recordPlain(state, Code.takeReady);
  const { log, config } = state;
  assert(state.stepsOnAdvance.length === 0, 'advance is called after every Ready');
  const entries = unstoredEntries(log);
  const snapshot = snapshotToHand(state);
  const hardState = hasHardStateChanged(state) ? hardStateOf(state) : undefined;
  const committed = committedEntries(log, !config.asyncStorageWrites);
  const mustSync = entries.length > 0 || isPromiseChanged(state);
  const mustKeepCommit = mustKeepCommitIndex(state);
  const stored = storageAppended(state, snapshot);
  const applied = committed.length > 0 ? storageApplied(committed) : undefined;
  const messages = given(state.messages);
  const { messagesAfterAppend: afterAppend } = state;
  const ready: Ready = {
    softState: hasSoftStateChanged(state) ? { leader: state.leader, role: state.role } : undefined,
    hardState,
    entries,
    snapshot,
    committedEntries: committed,
    messages: config.asyncStorageWrites
      ? messages
      : [...messages, ...afterAppend.filter((message) => message.to !== state.id)],
    readStates: given(state.readStates),
    mustSync,
    mustKeepCommit,
    storageAppend: config.asyncStorageWrites
      ? storageAppend({
          ...{ hardState, entries, snapshot, mustSync },
          ...{ mustKeepCommit, afterAppend, stored },
        })
      : undefined,
    storageApply:
      config.asyncStorageWrites && applied !== undefined
        ? { entries: committed, response: applied }
        : undefined,
  };
  if (!config.asyncStorageWrites) {
    const own: Message[] = afterAppend.filter((message) => message.to === state.id);
    if (stored !== undefined) own.push(stored);
    if (applied !== undefined) own.push(applied);
    state.stepsOnAdvance = own;
  }
  accept(state, ready, applied);
  return ready;
}

const nothing: readonly never[] = [];

/** An empty list stays with the core, which goes on writing to it: what was given out never changes afterwards. */
function given<T>(list: readonly T[]): readonly T[] {
  return list.length === 0 ? nothing : list;
}

function accept(state: RaftState, ready: Ready, applied: StorageApplied | undefined): void {
  if (ready.softState !== undefined) state.prevSoftState = ready.softState;
  if (ready.hardState !== undefined) state.prevHardState = ready.hardState;
  if (state.messages.length > 0) state.messages = [];
  if (state.messagesAfterAppend.length > 0) state.messagesAfterAppend = [];
  if (state.readStates.length > 0) state.readStates = [];
  noteHanded(state.log);
  if (applied !== undefined) noteApplying(state.log, applied, !state.config.asyncStorageWrites);
}

function storageAppend(parts: {
  readonly hardState: HardState | undefined;
  readonly entries: readonly Entry[];
  readonly snapshot: Snapshot | undefined;
  readonly mustSync: boolean;
  readonly mustKeepCommit: boolean;
  readonly afterAppend: Message[];
  readonly stored: StorageAppended | undefined;
}): StorageAppend | undefined {
  const { hardState, entries, snapshot, afterAppend, stored } = parts;
  const isNeeded =
    hardState !== undefined ||
    entries.length > 0 ||
    snapshot !== undefined ||
    afterAppend.length > 0;
  if (!isNeeded) return undefined;
  return {
    hardState,
    entries,
    snapshot,
    mustSync: parts.mustSync || snapshot !== undefined,
    mustKeepCommit: parts.mustKeepCommit,
    responses: responsesOf(afterAppend, stored),
  };
}

/** The list leaves the outbox with this `Ready`, so that the answer can be put behind it. */
function responsesOf(
  afterAppend: Message[],
  stored: StorageAppended | undefined,
): readonly Message[] {
  if (stored === undefined) return given(afterAppend);
  if (afterAppend.length === 0) return [stored];
  afterAppend.push(stored);
  return afterAppend;
}

/**
 * The store's answer: everything up to the last entry of now is durable. It also names the term of now: by the time it
 * comes back, another leader may have replaced entries and been replaced, and the same index and term could stand
 * there again without being durable.
 */
function storageAppended(
  state: RaftState,
  snapshot: Snapshot | undefined,
): StorageAppended | undefined {
  const { log } = state;
  const isUnstable = hasUnstableEntries(log);
  if (!isUnstable && snapshot === undefined) return undefined;
  return {
    type: 'storageAppended',
    term: state.currentTerm,
    last: isUnstable ? { index: log.lastIndex, term: lastTerm(log) } : undefined,
    snapshotIndex: snapshot?.index,
  };
}

function storageApplied(entries: readonly Entry[]): StorageApplied {
  const last = entries[entries.length - 1] as Entry;
  return { type: 'storageApplied', index: last.index, bytes: entryBytesOf(entries) };
}

function snapshotToHand(state: RaftState): Snapshot | undefined {
  return state.log.isPendingSnapshotHanded ? undefined : state.log.pendingSnapshot;
}

function hasSoftStateChanged(state: RaftState): boolean {
  const { prevSoftState } = state;
  return prevSoftState.leader !== state.leader || prevSoftState.role !== state.role;
}

function hasHardStateChanged(state: RaftState): boolean {
  return isPromiseChanged(state) || state.prevHardState.commitIndex !== state.log.commitIndex;
}

/** The commit index has passed what may be a configuration change since it was handed over last. */
function mustKeepCommitIndex({ log, prevHardState }: RaftState): boolean {
  const { commitIndex } = prevHardState;
  return commitIndex < log.commitIndex && commitIndex < log.confChangeIndex;
}

/** Term and vote are promises to others; the commit index is only a convenience. */
function isPromiseChanged(state: RaftState): boolean {
  const { prevHardState } = state;
  return prevHardState.term !== state.currentTerm || prevHardState.votedFor !== state.votedFor;
}

// What a leader believes of a follower: random histories of sends, answers and reports keep the rules of progress, and
// each state's own rules one by one.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { isFull } from './inflights.ts';
import {
  abandonSnapshot,
  becomeProbe,
  becomeReplicate,
  becomeSnapshot,
  canBumpCommit,
  freeAcknowledged,
  isHeldBack,
  newProgress,
  noteAppendSent,
  noteCommitSent,
  type Progress,
  resetProgress,
  tryAdvanceMatch,
  tryRetreat,
} from './progress.ts';

const inflightMessagesMax = 4;

function openProgress(nextIndex = 11): Progress {
  return newProgress({
    nextIndex,
    isLearner: false,
    isRecentlyActive: true,
    inflightMessagesMax,
    inflightBytesMax: 100,
  });
}

const command = fc.oneof(
  { weight: 3, arbitrary: fc.record({ verb: fc.constant('send' as const), count: fc.nat(3) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      verb: fc.constant('accept' as const),
      ahead: fc.integer({ min: -3, max: 4 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      verb: fc.constant('reject' as const),
      back: fc.integer({ min: -2, max: 3 }),
      hint: fc.nat(30),
    }),
  },
  fc.record({ verb: fc.constant('snapshot' as const), ahead: fc.nat(5) }),
  fc.record({ verb: fc.constant('abandon' as const) }),
  fc.record({ verb: fc.constant('unreachable' as const) }),
  fc.record({ verb: fc.constant('alive' as const) }),
  fc.record({ verb: fc.constant('newTerm' as const), lastIndex: fc.integer({ min: 0, max: 40 }) }),
);
type Command = typeof command extends fc.Arbitrary<infer Value> ? Value : never;

/** Does to `progress` what a leader does on such an occasion. */
function perform(progress: Progress, step: Command): void {
  switch (step.verb) {
    case 'send':
      return send(progress, step.count);
    case 'accept':
      return accept(progress, Math.max(0, progress.matchIndex + step.ahead));
    case 'reject': {
      const refusedIndex = Math.max(0, progress.nextIndex - 1 - step.back);
      const isNews = tryRetreat(progress, { refusedIndex, hintIndex: step.hint });
      if (isNews && progress.state === 'replicate') becomeProbe(progress);
      return;
    }
    case 'snapshot':
      if (isHeldBack(progress)) return;
      return becomeSnapshot(progress, progress.matchIndex + 1 + step.ahead);
    case 'abandon':
      if (progress.state === 'snapshot') abandonSnapshot(progress);
      return;
    case 'unreachable':
      if (progress.state === 'replicate') becomeProbe(progress);
      return;
    case 'alive':
      progress.isPaused = false;
      return;
    case 'newTerm':
      return resetProgress(progress, step.lastIndex + 1);
  }
}

function send(progress: Progress, count: number): void {
  if (isHeldBack(progress)) return;
  const isWindowFull = progress.state === 'replicate' && isFull(progress.inflights);
  const lastSentIndex = progress.nextIndex - 1 + (isWindowFull ? 0 : count);
  noteAppendSent(progress, isWindowFull ? 0 : count, count * 10);
  noteCommitSent(progress, lastSentIndex);
}

function accept(progress: Progress, index: number): void {
  const isNews = tryAdvanceMatch(progress, index);
  if (!isNews && !(progress.matchIndex === index && progress.state === 'probe')) return;
  if (progress.state === 'probe') becomeReplicate(progress);
  else if (progress.state === 'replicate') freeAcknowledged(progress);
}

function forEveryStep(check: (before: Progress, after: Progress, step: Command) => void): void {
  fc.assert(
    fc.property(fc.array(command, { maxLength: 60 }), (commands) => {
      const progress = openProgress();
      for (const step of commands) {
        const before = structuredClone(progress);
        perform(progress, step);
        check(before, progress, step);
      }
    }),
  );
}

describe('every history of a follower’s progress', () => {
  it('keeps matchIndex below nextIndex', () => {
    forEveryStep((_, { matchIndex, nextIndex }) => assert.ok(matchIndex < nextIndex));
  });

  it('never forgets within a term what the follower has confirmed', () => {
    forEveryStep((before, after, step) => {
      if (step.verb !== 'newTerm') assert.ok(after.matchIndex >= before.matchIndex);
    });
  });

  it('knows of a snapshot on the way exactly in state snapshot, and sends nothing meanwhile', () => {
    forEveryStep((_, progress) => {
      assert.equal(progress.snapshotIndex !== undefined, progress.state === 'snapshot');
      if (progress.state === 'snapshot') assert.ok(isHeldBack(progress));
    });
  });

  it('has messages on the way only in state replicate, within the window, above what is confirmed', () => {
    forEveryStep((_, { state, inflights, matchIndex, nextIndex }) => {
      assert.ok(inflights.count <= inflightMessagesMax);
      if (state !== 'replicate') assert.equal(inflights.count, 0);
      if (inflights.count === 0) return;
      const oldest = inflights.indexes[inflights.head] ?? 0;
      assert.ok(oldest > matchIndex);
      assert.ok(oldest < nextIndex);
    });
  });

  it('pauses when the window is full', () => {
    forEveryStep((_, progress, step) => {
      if (step.verb !== 'send' || progress.state !== 'replicate') return;
      assert.equal(progress.isPaused, isFull(progress.inflights));
    });
  });

  it('steps back only on a refusal, a loss or a new term, and never below what is confirmed', () => {
    forEveryStep((before, after, step) => {
      if (after.nextIndex >= before.nextIndex) return;
      assert.ok(after.nextIndex > after.matchIndex);
      const causes = ['reject', 'abandon', 'unreachable', 'newTerm', 'snapshot', 'accept'];
      assert.ok(causes.includes(step.verb));
    });
  });

  it('believes after a step back that the follower knows no commit index beyond it', () => {
    forEveryStep((before, after, step) => {
      if (step.verb === 'accept' || step.verb === 'snapshot') return;
      if (after.nextIndex >= before.nextIndex) return;
      assert.ok(after.sentCommitIndex < after.nextIndex);
    });
  });
});

describe('a probe', () => {
  it('sends one message with entries and then waits for a sign of life', () => {
    const progress = openProgress();
    noteAppendSent(progress, 3, 30);
    assert.ok(isHeldBack(progress));
    assert.equal(progress.nextIndex, 11);
  });

  it('does not wait after an empty message', () => {
    const progress = openProgress();
    noteAppendSent(progress, 0, 0);
    assert.ok(!isHeldBack(progress));
  });

  it('steps back at once to where the logs can still agree, not one by one', () => {
    const progress = openProgress(1_000);
    assert.ok(tryRetreat(progress, { refusedIndex: 999, hintIndex: 17 }));
    assert.equal(progress.nextIndex, 18);
  });

  it('steps back by one at least, even when the hint is higher than what was refused', () => {
    const progress = openProgress(11);
    assert.ok(tryRetreat(progress, { refusedIndex: 10, hintIndex: 30 }));
    assert.equal(progress.nextIndex, 10);
  });

  it('ignores refusals of earlier probes', () => {
    const progress = openProgress(11);
    assert.ok(!tryRetreat(progress, { refusedIndex: 7, hintIndex: 2 }));
    assert.ok(!tryRetreat(progress, { refusedIndex: 12, hintIndex: 2 }));
    assert.equal(progress.nextIndex, 11);
  });
});

describe('a replicating follower', () => {
  it('falls back to behind its match when a message is refused, and ignores older refusals', () => {
    const progress = openProgress();
    tryAdvanceMatch(progress, 10);
    becomeReplicate(progress);
    noteAppendSent(progress, 5, 50);
    assert.equal(progress.nextIndex, 16);
    assert.ok(!tryRetreat(progress, { refusedIndex: 10, hintIndex: 3 }));
    assert.equal(progress.nextIndex, 16);
    assert.ok(tryRetreat(progress, { refusedIndex: 12, hintIndex: 3 }));
    assert.equal(progress.nextIndex, 11);
  });

  it('is told of a commit index only if it can use it', () => {
    const progress = openProgress();
    tryAdvanceMatch(progress, 10);
    becomeReplicate(progress);
    noteCommitSent(progress, 8);
    assert.ok(!canBumpCommit(progress, 8));
    assert.ok(canBumpCommit(progress, 9));
    // It knows all that it can: its log ends at 10.
    noteCommitSent(progress, 10);
    assert.ok(!canBumpCommit(progress, 12));
  });
});

describe('a follower that gets a snapshot', () => {
  it('is probed behind the snapshot when it arrived', () => {
    const progress = openProgress();
    becomeSnapshot(progress, 20);
    assert.equal(progress.nextIndex, 21);
    becomeProbe(progress);
    assert.equal(progress.nextIndex, 21);
    assert.ok(!isHeldBack(progress));
  });

  it('is probed from what it confirmed when the snapshot was lost, after a sign of life', () => {
    const progress = openProgress();
    tryAdvanceMatch(progress, 4);
    becomeSnapshot(progress, 20);
    abandonSnapshot(progress);
    assert.equal(progress.nextIndex, 5);
    assert.ok(isHeldBack(progress));
  });
});

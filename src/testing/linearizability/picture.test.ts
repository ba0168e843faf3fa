// Pictures of histories: what stands left of what, every operation once, nothing that a browser would run.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { keyValueHistory } from '../../../test/support/concurrent-history.ts';
import { read, write } from '../../../test/support/register-operations.ts';
import { virtualClock } from '../virtual-clock.ts';
import { checkLinearizability } from './check.ts';
import { historyHtml } from './history-html.ts';
import { historyText } from './history-text.ts';
import { keyValueModel, registerModel } from './models.ts';
import { pictureRows } from './picture.ts';

const model = registerModel();
const badHistory = [
  write('anna', 1, [0, 10]),
  write('bert', 2, [2, 12]),
  read('c', 2, [3, 5]),
  read('c', 1, [6, 9]),
  read('d', 2, [13, 14]),
  write('anna', 3, [11]),
  read('anna', 2, [12.5, 16]),
];

test('a bad history as text: the prefix numbered, the stuck operation marked, unknown ends open', () => {
  const result = checkLinearizability(model, badHistory);
  assert.equal(
    `\n${historyText(model, badHistory, { result })}\n`,
    `
not linearizable: read -> 2 of client d cannot be placed

anna  |-3 write 1------------------||-write 3 -> ?...|-read -> 2----|
bert  |-1 write 2--------------------|
c     |-2 read -> 2-||-4 read -> 1-|
d                                                    |=!! read -> 2=|
`,
  );
});

test('a history without a result, and one that is linearizable, are drawn whole', () => {
  const history = badHistory.slice(0, 3);
  const rows = `
anna  |-write 1---|
bert  |-write 2---|
c     |-read -> 2-|`;
  assert.equal(historyText(model, history), `history\n${rows}`);
  const result = checkLinearizability(model, history);
  assert.equal(historyText(model, history, { result }), `linearizable\n${rows}`);
});

test('an undecided history says how far the check came', () => {
  const history = badHistory.slice(0, 2);
  const clock = virtualClock();
  const result = checkLinearizability(model, history, { timeLimitMs: 0, clock });
  const [heading] = historyText(model, history, { result }).split('\n');
  assert.equal(heading, 'not decided: out of time, 0 of 2 operations were placed');
});

test('of a long history the text shows what is around the stuck operation', () => {
  const history = keyValueHistory({
    ...{ seed: 1, clientCount: 3, operationCount: 200, keyCount: 1 },
    ...{ fault: 'staleRead', faultShare: 0.05 },
  });
  const result = checkLinearizability(keyValueModel(), history);
  assert.ok(result.verdict === 'illegal');
  const text = historyText(keyValueModel(), history, { result, operationsMax: 6 });
  assert.equal(text.match(/\|[-=]/g)?.length, 6);
  assert.equal(text.match(/!! /g)?.length, 1);
  assert.match(text, /^194 more operations, before or after, are not shown$/m);
});

test('in a picture one stands right of another exactly when it was called after the return', () => {
  for (let seed = 1; seed <= 40; seed++) {
    const history = keyValueHistory({
      ...{ seed, clientCount: 4, operationCount: 40, keyCount: 1 },
      ...{ unknownShare: 0.2, eventsPerTime: 1 },
    });
    const rows = pictureRows(keyValueModel(), history, {});
    const intervals = rows.flatMap((row) => row.intervals);
    assert.equal(intervals.length, history.length);
    for (const a of intervals) {
      assert.ok(a.end - a.start >= a.label.length + 3, 'the label has room');
      const { returnedAt } = a.operation;
      if (returnedAt === undefined) continue;
      for (const b of intervals) {
        assert.equal(a.end < b.start, returnedAt < b.operation.calledAt, `seed ${seed}`);
      }
    }
  }
});

test('intervals of one client never overlap in a picture, whatever happens at one time', () => {
  for (let seed = 1; seed <= 40; seed++) {
    const history = keyValueHistory({
      ...{ seed, clientCount: 3, operationCount: 40, keyCount: 1 },
      ...{ unknownShare: 0.2, eventsPerTime: 12 },
    });
    for (const { intervals } of pictureRows(keyValueModel(), history, {})) {
      for (const [at, { start }] of intervals.entries()) {
        const before = intervals[at - 1];
        assert.ok(before === undefined || before.end < start, `seed ${seed}`);
      }
    }
  }
});

test('the page has every operation once in the picture, and nothing from outside', () => {
  const history = keyValueHistory({
    ...{ seed: 5, clientCount: 4, operationCount: 60, keyCount: 1 },
    ...{ unknownShare: 0.1, fault: 'staleRead', faultShare: 0.2 },
  });
  const result = checkLinearizability(keyValueModel(), history);
  assert.ok(result.verdict === 'illegal');
  const page = historyHtml(keyValueModel(), history, { result });
  assert.equal(page.match(/<div class="operation /g)?.length, 60);
  for (const { client, calledAt } of history) {
    assert.equal(page.split(`: client ${client}, called at ${calledAt},`).length, 2);
  }
  assert.equal(page.match(/<div class="operation stuck"/g)?.length, 1);
  assert.equal(page.match(/<div class="operation placed/g)?.length, result.prefix.length);
  assert.doesNotMatch(page, /<script|<link|<img|https?:|url\(/);
});

test('what comes from the history is text in the page, never markup', () => {
  const evil = '<img src=x onerror="alert(1)">&\'';
  const history = [write(evil, evil, [0, 1]), read('b', `\n${evil}`, [2, 3])];
  const page = historyHtml(model, history, { result: checkLinearizability(model, history) });
  assert.ok(!page.includes('<img'));
  assert.ok(page.includes('&lt;img src=x onerror=&quot;alert(1)&quot;&gt;&amp;&#39;'));
});

test('an operation is drawn on one line, whatever a model says of it', () => {
  const talkative = { ...model, describe: () => 'two\nlines\u0007' };
  const text = historyText(talkative, [write('a', 1, [0, 1])]);
  assert.equal(text, 'history\n\na  |-two\\nlines\\u0007-|');
});

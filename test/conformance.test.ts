// The conformance data of etcd/raft, replayed against the core, and the rules of the harness that replays it: what
// counts, what is ignored, and that a wrong expectation fails.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { areEqual, comparableLines, diffLines, formatDiff } from './conformance/compare.ts';
import { DataFileError, parseDataFile } from './conformance/data-file.ts';
import { openInteractionDriver } from './conformance/interaction-driver.ts';
import { openQuorumDriver } from './conformance/quorum-driver.ts';
import { replayFolder, summaryOf } from './conformance/runner.ts';

const project = join(import.meta.dirname, '..');
const shared = join(project, '..', 'shared', 'conformance', 'etcd-raft');

function runMain(...args: readonly string[]): { status: number | null; lines: readonly string[] } {
  const main = join(project, 'test', 'conformance', 'main.ts');
  const { status, stdout } = spawnSync(process.execPath, [main, ...args], { encoding: 'utf8' });
  return { status, lines: stdout.trimEnd().split('\n') };
}

/** Every directive of these files has one separator line, so this is their number, found without the parser. */
function separatorCount(folder: string): number {
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' });
  const texts = files.filter((file) => file.endsWith('.txt'));
  return texts
    .flatMap((file) => readFileSync(join(folder, file), 'utf8').split('\n'))
    .filter((line) => line === '----').length;
}

/** A folder with the three kinds of scenarios; each kind has one trivial file unless `files` says otherwise. */
function withFolder(files: Readonly<Record<string, string>>, use: (folder: string) => void): void {
  const folder = mkdtempSync(join(tmpdir(), 'conformance-'));
  try {
    const trivial = {
      'quorum/vote.txt': 'vote cfg=(1) votes=(y)\n----\nVoteWon\n',
      'confchange/simple.txt': 'simple\nv1\n----\nvoters=(1)\n1: StateProbe match=0 next=1\n',
      'interaction/level.txt': 'log-level none\n----\nok\n',
    };
    for (const [name, text] of Object.entries({ ...trivial, ...files })) {
      mkdirSync(join(folder, name, '..'), { recursive: true });
      writeFileSync(join(folder, name), text);
    }
    use(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Changes one character of the last expected line that counts. */
function spoilLastExpectation(file: string): void {
  const lines = readFileSync(file, 'utf8').split('\n');
  const directives = parseDataFile(lines.join('\n'));
  const outputs = directives.flatMap(({ expected = [], expectedLine }) =>
    expected.map((text, at) => ({ text, at: expectedLine - 1 + at })),
  );
  const last = outputs.findLast(({ text }) => comparableLines([text])[0] === text);
  assert.ok(last !== undefined, `${file} expects something`);
  writeFileSync(file, lines.with(last.at, `${last.text.slice(0, -1)}~`).join('\n'));
}

/** Plays a script of directives without expectations and returns what the last one prints. */
function play(script: string): string {
  const driver = openInteractionDriver();
  const outputs = parseDataFile(script.replaceAll('\n\n', '\n----\n\n')).map(driver);
  return outputs.at(-1) ?? '';
}

describe('conformance with the scenarios of etcd/raft', () => {
  it('finds the data next to the project', () => {
    assert.ok(existsSync(shared), `the conformance data is missing: expected it in ${shared}`);
  });

  it('every scripted scenario prints what it is expected to print', () => {
    const tally = replayFolder(shared);
    assert.deepEqual(tally.reports, []);
    assert.equal(tally.failed, 0);
    assert.ok(tally.passed > 0);
  });

  it('prints the same when cores keep their copies of entries in memory', () => {
    assert.deepEqual(replayFolder(shared, { trimsLogs: false }), replayFolder(shared));
  });

  it('counts every directive with expected output ', () => {
    const { status, lines } = runMain(shared);
    assert.equal(lines.at(-1), `${separatorCount(shared)} passed, 0 failed`);
    assert.equal(status, 0);
  });
});

describe('the conformance runner', () => {
  it('passes a folder whose expectations hold', () => {
    withFolder({}, (folder) => {
      const { status, lines } = runMain(folder);
      assert.deepEqual(lines, ['3 passed, 0 failed']);
      assert.equal(status, 0);
    });
  });

  it('reports a wrong expectation with file, line and difference, and goes on', () => {
    const text =
      'vote cfg=(1) votes=(y)\n----\nVoteWon\n\n# wrong\nvote cfg=(1) votes=(n)\n----\nVoteWon\n\nvote\n----\nVoteWon\n';
    withFolder({ 'quorum/vote.txt': text }, (folder) => {
      const { status, lines } = runMain(folder);
      assert.equal(status, 1);
      assert.deepEqual(lines, [
        `${join(folder, 'quorum', 'vote.txt')}:6: vote`,
        '--- expected (line 8)',
        '+++ actual',
        '- VoteWon',
        '+ VoteLost',
        '',
        '4 passed, 1 failed',
      ]);
    });
  });

  it('finds one changed character in the output that each shared file expects last', () => {
    const folder = mkdtempSync(join(tmpdir(), 'conformance-'));
    try {
      cpSync(shared, folder, { recursive: true });
      const files = readdirSync(folder, { recursive: true, encoding: 'utf8' })
        .filter((file) => file.endsWith('.txt'))
        .map((file) => join(folder, file));
      for (const file of files) spoilLastExpectation(file);
      const tally = replayFolder(folder);
      const spoiled = new Set(tally.reports.map((report) => report.slice(0, report.indexOf(':'))));
      assert.deepEqual([...spoiled].sort(), files.sort());
      assert.equal(tally.failed, files.length);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('fails when the folder, one of its three kinds or a file in it is missing or empty', () => {
    withFolder({}, (folder) => {
      const absent = runMain(join(folder, 'nowhere'));
      assert.equal(absent.lines.at(-1), '0 passed, 3 failed');
      assert.equal(absent.status, 1);

      rmSync(join(folder, 'quorum', 'vote.txt'));
      assert.equal(summaryOf(replayFolder(folder)), '2 passed, 1 failed');
      rmSync(join(folder, 'quorum'), { recursive: true });
      assert.equal(summaryOf(replayFolder(folder)), '2 passed, 1 failed');
      assert.equal(runMain(folder).status, 1);
    });
    withFolder({ 'quorum/vote.txt': '# nothing here\n' }, (folder) => {
      assert.equal(summaryOf(replayFolder(folder)), '2 passed, 1 failed');
    });
  });

  it('refuses a call without exactly one folder', () => {
    assert.equal(runMain().status, 2);
    assert.equal(runMain('a', 'b').status, 2);
  });

  it('counts a directive that it does not know, or that has an unknown argument, as failed', () => {
    const text = 'conquer 1\n----\nok\n\nstabilize speed=2\n----\nok\n\ncampaign 7\n----\nok\n';
    withFolder({ 'interaction/level.txt': text }, (folder) => {
      assert.equal(summaryOf(replayFolder(folder)), '2 passed, 3 failed');
    });
  });
});

describe('the data file format', () => {
  it('reads bare, single and listed arguments, with white space inside of lists', () => {
    const [directive] = parseDataFile('deliver-msgs 1 drop=(2, 3) type=MsgApp\n----\nok\n');
    assert.deepEqual(directive?.args, [
      { key: '1', values: [] },
      { key: 'drop', values: ['2', '3'] },
      { key: 'type', values: ['MsgApp'] },
    ]);
  });

  it('joins a command line that ends with a backslash', () => {
    const [directive] = parseDataFile('add-nodes 1 \\\n  index=2\n----\nok\n');
    assert.deepEqual(
      directive?.args.map(({ key }) => key),
      ['1', 'index'],
    );
  });

  it('separates comments, input and expected output', () => {
    const directives = parseDataFile('# a\n\n  # b\nsimple\nv1\nl2\n----\nx\ny\n\n\n# c\nvote\n');
    assert.deepEqual(directives, [
      {
        ...{ line: 4, command: 'simple', args: [], input: 'v1\nl2' },
        ...{ expected: ['x', 'y'], expectedLine: 8 },
      },
      {
        ...{ line: 13, command: 'vote', args: [], input: '' },
        ...{ expected: undefined, expectedLine: 14 },
      },
    ]);
  });

  it('keeps empty lines of an output between doubled separators', () => {
    const [first, second] = parseDataFile(
      'a\n----\n----\nx\n\n----\ny\n----\n----\n\nb\n----\nz\n',
    );
    assert.deepEqual(first?.expected, ['x', '', '----', 'y']);
    assert.deepEqual(second?.expected, ['z']);
  });

  it('reads a directive whose expected output is empty as one that expects nothing printed', () => {
    assert.deepEqual(parseDataFile('a\n----\n')[0]?.expected, []);
  });

  it('refuses arguments and outputs that do not close', () => {
    assert.throws(() => parseDataFile('a b=(1\n----\nok\n'), DataFileError);
    assert.throws(() => parseDataFile('a\n----\n----\nx\n----\n'), DataFileError);
  });
});

describe('the comparison', () => {
  it('ignores log lines on both sides, at any indentation', () => {
    const expected = [
      'INFO 1 became leader',
      '> 1',
      '  DEBUG 2 x',
      '  \tERROR y',
      'WARN z',
      'INFORMED',
    ];
    assert.deepEqual(comparableLines(expected), ['> 1', 'INFORMED']);
  });

  it('takes an output of nothing but log lines for "ok", which the original prints when nothing is printed', () => {
    assert.deepEqual(comparableLines(['INFO 1 became candidate']), ['ok']);
    assert.deepEqual(comparableLines([]), []);
    assert.deepEqual(comparableLines(['ok']), ['ok']);
  });

  it('sees order, repetition, indentation and trailing space', () => {
    assert.ok(areEqual(['a', 'b'], ['a', 'b']));
    assert.ok(!areEqual(['a', 'b'], ['b', 'a']));
    assert.ok(!areEqual(['a'], ['a', 'a']));
    assert.ok(!areEqual(['a'], [' a']));
    assert.ok(!areEqual(['a'], ['a ']));
  });

  it('shows a shortest difference with some lines around it', () => {
    const expected = ['1', '2', '3', '4', '5', '6', '7', '8'];
    const actual = ['1', '2', '3', '4', '5', '6', 'x', '8', '9'];
    const diff = formatDiff(diffLines(expected, actual), 1);
    assert.equal(diff, '  …\n  6\n- 7\n+ x\n  8\n+ 9');
  });
});

describe('the quorum driver', () => {
  it('prints unknown voters, equal indexes and the empty configuration as the files do', () => {
    const driver = openQuorumDriver();
    const [some, none] = parseDataFile(
      'committed cfg=(1,2,3) idx=(5,_,5)\n\ncommitted\n'.replaceAll('\n\n', '\n----\n\n'),
    );
    assert.equal(
      some === undefined ? '' : driver(some),
      '       idx\nx>       5    (id=1)\n?        0    (id=2)\nx>       5    (id=3)\n5\n',
    );
    assert.equal(none === undefined ? '' : driver(none), '<empty majority quorum>∞\n');
  });
});

describe('the interaction driver', () => {
  const threeNodes = 'log-level none\n\nadd-nodes 3 voters=(1,2,3) index=5\n\n';
  const led = `${threeNodes}campaign 1\n\nstabilize\n\n`;
  const loud = 'log-level info\n\n';

  it('keeps silent at log level none but for errors', () => {
    assert.equal(play(`${led}raft-state\n\n`), 'ok');
    assert.equal(play(`${led}propose 2 x\n\n`), 'raft proposal dropped');
  });

  it('delivers only messages of the type that was asked for', () => {
    const sent = `${threeNodes}campaign 1\n\nprocess-ready 1\n\n${loud}`;
    assert.equal(play(`${sent}deliver-msgs 2 type=MsgApp\n\n`), 'no messages\n');
    assert.equal(play(`${sent}deliver-msgs 2 type=MsgVote\n\n`), '1->2 MsgVote Term:1 Log:1/5\n');
    assert.equal(
      play(`${sent}deliver-msgs drop=(2,3)\n\n`),
      'dropped: 1->2 MsgVote Term:1 Log:1/5\ndropped: 1->3 MsgVote Term:1 Log:1/5\n',
    );
  });

  it('refuses to deliver and drop messages of one recipient', () => {
    assert.match(play(`${led}${loud}deliver-msgs 2 drop=(2)\n\n`), /can't both deliver and drop/);
  });

  it('queues a snapshot of the applied state when a directive asks for it', () => {
    const text = play(`${led}propose 1 x\n\nstabilize\n\n${loud}send-snapshot 1 3\n\n`);
    const conf = 'Voters:[1 2 3] VotersOutgoing:[] Learners:[] LearnersNext:[] AutoLeave:false';
    assert.equal(text, `1->3 MsgSnap Term:1 Log:0/0\n  Snapshot: Index:7 Term:1 ConfState:${conf}`);
  });

  it('reports a peer as unreachable to the leader, which probes it again', () => {
    const text = play(`${led}${loud}report-unreachable 1 3\n\nstatus 1\n\n`);
    assert.match(text, /^3: StateProbe match=6 next=7$/m);
    assert.match(text, /^2: StateReplicate match=6 next=7$/m);
  });

  it('knows an empty log, a log that was compacted already and one that is too short', () => {
    const at = `${led}${loud}`;
    assert.equal(play(`${at}compact 1 6\n\n`), 'log is empty: first index=7, last index=6');
    assert.match(play(`${at}compact 1 5\n\n`), /unavailable due to compaction/);
    assert.match(play(`${at}compact 1 9\n\n`), /cannot compact beyond/);
  });

  it('refuses a change of the first format with several operations or a transition', () => {
    const refusal = 'v1 conf change can only have one operation and no transition';
    const at = `${led}${loud}`;
    assert.equal(play(`${at}propose-conf-change 1 v1=true\nv4 v5\n\n`), refusal);
    assert.equal(play(`${at}propose-conf-change 1 v1=true transition=implicit\nv4\n\n`), refusal);
  });

  it('refuses an unknown log level and a bootstrap below index 2', () => {
    assert.match(play('log-level loud\n\n'), /log levels must be either of/);
    assert.match(play('add-nodes 1 voters=(1) index=1\n\n'), /index must be specified as > 1/);
  });

  it('leaves work of the storage threads until it is asked for', () => {
    const at =
      'log-level none\n\nadd-nodes 1 voters=(1) index=2 async-storage-writes=true\n\ncampaign 1\n\nlog-level info\n\n';
    assert.equal(play(`${at}process-append-thread 1\n\n`), 'no append work to perform');
    assert.equal(play(`${at}process-apply-thread 1\n\n`), 'no apply work to perform');
    assert.match(play(`${at}process-ready 1\n\nprocess-append-thread 1\n\n`), /^Processing:\n/);
    assert.match(play(`${at}process-ready 1\n\nraft-state\n\n`), /StateCandidate/);
  });
});

// `kommander demo`: a cluster of three processes under load, with leaders that are killed on request, and at the end
// the proof that nothing acknowledged was lost. This file is the order of events; the parts are beside it.

import { randomInt } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import type { WriteStream } from 'node:tty';
import { type Random, seededRandom } from '../../base/random.ts';
import { systemClock } from '../../time/system-clock.ts';
import { Cluster, mustBecomeHealthy } from './cluster.ts';
import type { DemoOptions } from './demo-options.ts';
import { findFreePorts, type NodePorts } from './free-ports.ts';
import { type Load, startLoad } from './load.ts';
import { loopbackMulticast } from './multicast-check.ts';
import type { NodeProcess } from './node-process.ts';
import {
  invitation,
  type LiveFigures,
  progressLine,
  summaryOf,
  summaryText,
  tableLines,
} from './report.ts';
import { makeRunDirectory } from './run-directory.ts';
import { verify } from './verify.ts';

const nodeIds = ['a', 'b', 'c'] as const;
const healthyMsMax = 60_000;
/** Milliseconds that a killed node stays away. */
const awayMs = 1_000;
const tableMs = 500;
const progressMs = 2_000;

/** What the parts of a run share. */
interface Run {
  readonly options: DemoOptions;
  readonly cluster: Cluster;
  readonly random: Random;
  readonly screen: Screen;
  /** Fires when the load shall end: time is up, Ctrl-C, or a node ended by itself. */
  readonly ending: AbortController;
  lastEvent: string;
  /** Why the run has failed whatever the figures say. */
  failure: string | undefined;
}

/** Where text goes: people read the terminal, programs the one line of JSON. */
interface Screen {
  say(text: string): void;
  /** Shows the newest figures: as a table that is drawn over, or as a line. */
  show(figures: LiveFigures): void;
  readonly everyMs: number;
}

/**
 * Runs the demo.
 *
 * @returns the exit code: 0 when nothing was lost and every node stayed up
 * @throws KommanderError the cluster did not come up
 */
export async function runDemo(options: DemoOptions, entryFile: string): Promise<number> {
  const screen = options.json ? jsonScreen() : textScreen();
  const directory = makeRunDirectory(options.data, systemClock.wallMs());
  const ports = await findFreePorts(nodeIds.length);
  const { members, discovery } = await meeting(options, ports);
  const cluster = new Cluster(
    nodeIds.flatMap((nodeId, at) => {
      const { wal, partitions } = options;
      const own = ports[at];
      if (own === undefined) return [];
      const where = { nodeId, ports: own, entryFile, directory, members, discovery };
      return [{ ...where, wal, partitions, onUnexpectedExit: nodeEnded }];
    }),
  );
  const seed = randomInt(2 ** 32);
  const ending = new AbortController();
  const run: Run = {
    options,
    cluster,
    random: seededRandom(seed),
    screen,
    ending,
    lastEvent: '',
    failure: undefined,
  };

  function nodeEnded(node: NodeProcess, reason: string): void {
    run.failure = `node ${node.nodeId} ended by itself (${reason}); the end of ${node.logFile}:\n${node.logTail()}`;
    ending.abort();
  }

  using _ = stopOnSignals(run);
  screen.say(`Starting three nodes; data and logs are in ${directory}`);
  try {
    await cluster.start();
    await mustBecomeHealthy(cluster, healthyMsMax, ending.signal);
    return await runLoad(run, directory);
  } catch (error) {
    if (ending.signal.aborted && run.failure === undefined) return 1;
    throw error;
  } finally {
    await cluster.stop();
  }
}

/** How the nodes know of each other, in the options of `serve`. */
async function meeting(
  { discovery }: DemoOptions,
  ports: readonly NodePorts[],
): Promise<{ readonly members: string; readonly discovery: string }> {
  if (discovery === 'multicast') {
    return { members: nodeIds.join(','), discovery: await loopbackMulticast() };
  }
  const members = nodeIds.map((id, at) => `${id}=127.0.0.1:${ports[at]?.raft}`).join(',');
  return { members, discovery };
}

async function runLoad(run: Run, directory: string): Promise<number> {
  const { options, cluster, random, screen, ending } = run;
  const [first, second] = cluster.nodes;
  if (options.seconds === undefined && first !== undefined && second !== undefined) {
    const [url, otherUrl] = [first, second].map((node) => `http://127.0.0.1:${node.httpPort}`);
    screen.say(`\n${invitation(url ?? '', otherUrl ?? '')}\n`);
  }
  const { clients: clientCount, partitions: partitionCount, seconds } = options;
  const load = startLoad({ cluster, clientCount, partitionCount, random });
  const loadMs = seconds === undefined ? Number.POSITIVE_INFINITY : seconds * 1_000;
  const watching = watch(run, load);
  const killing = killLeaders(run).catch((error: unknown) => {
    run.failure = error instanceof Error ? error.message : String(error);
    ending.abort();
  });
  await untilAborted(ending, loadMs);
  ending.abort();
  const endedMs = performance.now() - load.startMs;
  await Promise.all([load.stop(), watching, killing]);

  screen.say('Reading everything back …');
  const isHealthy = await cluster.becomesHealthy(healthyMsMax);
  if (!isHealthy) run.failure ??= `the cluster was not healthy ${healthyMsMax} ms after the load`;
  const problems = await verify(cluster, load.ledgers);
  const leaderChanges = cluster.leaders.changeCount;
  const summary = summaryOf(load, { loadMs: endedMs, leaderChanges, lostAtEnd: problems.length });
  for (const problem of [...load.problems, ...problems.slice(0, 20)]) {
    process.stderr.write(`${problem}\n`);
  }
  if (run.failure !== undefined) process.stderr.write(`${run.failure}\n`);
  const text = options.json
    ? JSON.stringify(summary)
    : `\n${summaryText(summary)}\n\nThe data of this run stays in ${directory} until the next run.`;
  process.stdout.write(`${text}\n`);
  return summary.lost === 0 && run.failure === undefined ? 0 : 1;
}

/** Kills a leading node every `killLeaderEvery` seconds and brings it back; the next one only when all is well again. */
async function killLeaders(run: Run): Promise<void> {
  const { options, cluster, random, ending } = run;
  const { signal } = ending;
  if (options.killLeaderEvery === undefined) return;
  const everyMs = options.killLeaderEvery * 1_000;
  let dueMs = performance.now() + everyMs;
  for (;;) {
    await pauseUnless(signal, dueMs - performance.now());
    if (signal.aborted) return;
    const isHealthy = await cluster.becomesHealthy(healthyMsMax, signal);
    const victim = isHealthy ? cluster.leadingNode((bound) => random.below(bound)) : undefined;
    if (signal.aborted) return;
    dueMs = performance.now() + everyMs;
    if (victim === undefined) continue;
    const led = cluster.leaders.ledBy(victim.nodeId).join(', ');
    event(run, `killed ${victim.nodeId}, which led ${led}`);
    await cluster.kill(victim);
    await pauseUnless(signal, awayMs);
    await victim.start();
    event(run, `restarted ${victim.nodeId}`);
  }
}

/** Shows how it goes, until the load ends. */
async function watch(run: Run, load: Load): Promise<void> {
  const { options, cluster, screen, ending } = run;
  const { partitions, wal, clients } = options;
  const title = `three nodes · ${partitions} partitions · ${wal} · ${clients} writers`;
  let lastMs = performance.now();
  let lastCount = 0;
  while (!ending.signal.aborted) {
    await pauseUnless(ending.signal, screen.everyMs);
    const nowMs = performance.now();
    const rate = ((load.counts.acknowledged - lastCount) * 1_000) / (nowMs - lastMs);
    const elapsedMs = nowMs - load.startMs;
    screen.show({ cluster, load, title, elapsedMs, rate, lastEvent: run.lastEvent });
    load.recentLatency.reset();
    lastCount = load.counts.acknowledged;
    lastMs = nowMs;
  }
}

function event(run: Run, text: string): void {
  run.lastEvent = text;
  if (!process.stdout.isTTY || run.options.json) run.screen.say(text);
}

/**
 * The first SIGINT or SIGTERM ends the load, and the run goes on to its summary. A second one ends everything at once.
 * However this process ends, it takes its nodes along.
 */
function stopOnSignals(run: Run): Disposable {
  const { cluster, ending, screen } = run;
  let signalCount = 0;
  function onSignal(): void {
    signalCount += 1;
    if (signalCount > 1) process.exit(1);
    screen.say('\nEnding; once more to end at once.');
    ending.abort();
  }
  function killAll(): void {
    for (const node of cluster.nodes) node.killNow();
  }
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  process.on('exit', killAll);
  return {
    [Symbol.dispose]() {
      process.off('SIGINT', onSignal);
      process.off('SIGTERM', onSignal);
      process.off('exit', killAll);
    },
  };
}

function jsonScreen(): Screen {
  return lineScreen(process.stderr);
}

function textScreen(): Screen {
  return process.stdout.isTTY ? tableScreen(process.stdout) : lineScreen(process.stdout);
}

function lineScreen(stream: NodeJS.WritableStream): Screen {
  return {
    everyMs: progressMs,
    say: (text) => void stream.write(`${text}\n`),
    show: (figures) => void stream.write(`${progressLine(figures)}\n`),
  };
}

function tableScreen(stream: WriteStream): Screen {
  let drawnLines = 0;
  return {
    everyMs: tableMs,
    say(text) {
      drawnLines = 0;
      stream.write(`${text}\n`);
    },
    show(figures) {
      const lines = tableLines(figures).map((line) => line.slice(0, stream.columns - 1));
      const up = drawnLines === 0 ? '' : `\u001b[${drawnLines}A`;
      stream.write(`${up}${lines.map((line) => `${line}\u001b[K\n`).join('')}`);
      drawnLines = lines.length;
    },
  };
}

async function untilAborted(ending: AbortController, waitMs: number): Promise<void> {
  const endMs = performance.now() + waitMs;
  while (!ending.signal.aborted && performance.now() < endMs) {
    await pauseUnless(ending.signal, Math.min(1_000, endMs - performance.now()));
  }
}

/** Waits, or returns at once when `signal` fires. */
async function pauseUnless(signal: AbortSignal, waitMs: number): Promise<void> {
  try {
    await pause(Math.max(0, waitMs), undefined, { signal });
  } catch (error) {
    if (!(error instanceof Error && error.name === 'AbortError')) throw error;
  }
}

// One node of the demo: a child process that runs `serve`. It is a group of its own, so that Ctrl-C reaches only the
// demo, which then ends its nodes in order; and it stops when its standard input ends, so that it never outlives a
// demo that was killed.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { KommanderError } from '../../base/errors.ts';
import type { NodePorts } from './free-ports.ts';

export interface NodeProcessOptions {
  readonly nodeId: string;
  readonly ports: NodePorts;
  /** The script of the command line. */
  readonly entryFile: string;
  /** The run's directory: data in `<nodeId>/`, log in `<nodeId>.log`. */
  readonly directory: string;
  readonly members: string;
  /** `--discovery` of `serve`. */
  readonly discovery: string;
  readonly partitions: number;
  readonly wal: string;
  /** Called when the process ends although nobody asked it to. */
  readonly onUnexpectedExit: (node: NodeProcess, reason: string) => void;
}

const readyMsMax = 60_000;
const stopMsMax = 30_000;
const logTailLines = 15;
/** Small, so that a demo that runs for hours keeps a small log, and shows that compaction does no harm. */
const checkpointBytes = 4_194_304;
/** Half of the default: on one machine there is no network to wait for, and a killed leader is missed sooner. */
const electionTicks = 10;

export type NodeProcessState = 'stopped' | 'starting' | 'running' | 'ending';

export class NodeProcess {
  readonly nodeId: string;
  readonly httpPort: number;
  readonly logFile: string;
  readonly #options: NodeProcessOptions;
  #state: NodeProcessState = 'stopped';
  #child: ChildProcess | undefined;

  constructor(options: NodeProcessOptions) {
    this.#options = options;
    this.nodeId = options.nodeId;
    this.httpPort = options.ports.http;
    this.logFile = join(options.directory, `${options.nodeId}.log`);
  }

  get state(): NodeProcessState {
    return this.#state;
  }

  /**
   * Starts the process; resolves when it takes requests.
   *
   * @throws INTERNAL_ERROR it ended or did not get ready in time; the message has the end of its log
   */
  async start(): Promise<void> {
    const { nodeId, directory } = this.#options;
    mkdirSync(join(directory, nodeId), { recursive: true });
    const log = openSync(this.logFile, 'a');
    const [command = '', ...parameters] = this.#commandLine();
    const child = spawn(command, parameters, {
      stdio: ['pipe', 'pipe', log],
      detached: true,
      env: environmentWithoutOptions(),
    });
    closeSync(log);
    this.#child = child;
    this.#state = 'starting';
    child.once('exit', (code, signal) => this.#exited(child, signal ?? `exit code ${code}`));
    child.stdin?.on('error', () => {});
    await this.#ready(child);
    this.#state = 'running';
  }

  /** SIGKILL; resolves when the process is gone. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  /** SIGTERM; resolves when the process is gone. One that does not end in time is killed. */
  async stop(): Promise<void> {
    const giveUp = setTimeout(() => this.killNow(), stopMsMax);
    await this.#end('SIGTERM');
    clearTimeout(giveUp);
  }

  /** SIGKILL without waiting, for the end of the demo's own process. */
  killNow(): void {
    this.#state = 'ending';
    this.#child?.kill('SIGKILL');
  }

  /** The last lines of the node's log. */
  logTail(): string {
    try {
      return readFileSync(this.logFile, 'utf8')
        .trimEnd()
        .split('\n')
        .slice(-logTailLines)
        .join('\n');
    } catch (error) {
      return `(no log: ${error instanceof Error ? error.message : String(error)})`;
    }
  }

  #commandLine(): string[] {
    const { nodeId, ports, entryFile, directory, members, discovery, partitions, wal } =
      this.#options;
    const options = {
      'node-id': nodeId,
      members,
      discovery,
      listen: `127.0.0.1:${ports.raft}`,
      http: `127.0.0.1:${ports.http}`,
      data: join(directory, nodeId),
      partitions,
      wal,
      'checkpoint-bytes': checkpointBytes,
      'election-ticks': electionTicks,
    };
    const flags = Object.entries(options).flatMap(([name, value]) => [`--${name}`, `${value}`]);
    const program = [process.execPath, ...process.execArgv, entryFile];
    return [...program, 'serve', ...flags, '--stop-with-parent'];
  }

  async #ready(child: ChildProcess): Promise<void> {
    const { nodeId } = this.#options;
    const ready = new Promise<string>((resolve) => {
      const timer = setTimeout(resolve, readyMsMax, `was not ready after ${readyMsMax} ms`);
      const settle = (problem: string): void => {
        clearTimeout(timer);
        resolve(problem);
      };
      child.once('error', (error) => settle(error.message));
      child.once('exit', (code, signal) => settle(`ended with ${signal ?? `exit code ${code}`}`));
      child.stdout?.on('data', (text: Buffer) => {
        if (text.toString().includes('kommander ready')) settle('');
      });
    });
    const problem = await ready;
    if (problem === '') return;
    const state = this.#state;
    this.killNow();
    if (state === 'ending') return;
    throw new KommanderError(`node ${nodeId} ${problem}; the end of its log:\n${this.logTail()}`, {
      code: 'INTERNAL_ERROR',
      details: { nodeId },
    });
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    this.#state = 'ending';
    const exited = once(child, 'exit');
    child.kill(signal);
    await exited;
  }

  #exited(child: ChildProcess, reason: string): void {
    if (this.#child !== child) return;
    const wasRunning = this.#state === 'running';
    this.#child = undefined;
    this.#state = 'stopped';
    if (wasRunning) this.#options.onUnexpectedExit(this, reason);
  }
}

/** The nodes get all their options as flags; variables that are meant for a server of the user's do not reach them. */
function environmentWithoutOptions(): NodeJS.ProcessEnv {
  const entries = Object.entries(process.env).filter(([name]) => !name.startsWith('KOMMANDER_'));
  return Object.fromEntries(entries);
}

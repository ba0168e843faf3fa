// Real servers of registries as child processes on loopback: found, started, waited for, and ended by their own id. Where
// one is not installed, the tests that need it are skipped and say so; KOMMANDER_REGISTRIES=required makes that a failure.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePorts } from './ports.ts';

/** Where Debian puts them; a user's PATH often lacks the last one. */
const searchPath = `${process.env.PATH ?? ''}:/usr/bin:/usr/sbin`;

/** Why tests that need the server `command` are skipped, or false. */
export function skipWithout(command: string): string | false {
  const { error } = spawnSync(command, ['--version'], { env: { PATH: searchPath } });
  if (error === undefined) return false;
  const reason = `${command} is not installed`;
  if (process.env.KOMMANDER_REGISTRIES === 'required') throw new Error(reason);
  return reason;
}

/** A server that can be stopped and started again on its port. */
export interface RegistryServer extends AsyncDisposable {
  readonly port: number;
  stop(): Promise<void>;
  /** Resolves when it answers. What it knew before is gone. */
  start(): Promise<void>;
}

export interface ServerCommand {
  readonly command: string;
  /** @param directory empty, and removed at the end */
  arguments(place: { readonly ports: readonly number[]; readonly directory: string }): string[];
  /** Whether it answers at its first port. */
  isUp?(port: number): Promise<boolean>;
}

/** What a redis-server of a test asks for. */
export const redisPassword = 'correct horse';

export const redisCommand: ServerCommand = {
  command: 'redis-server',
  arguments: ({ ports: [port], directory }) => [
    ...['--port', String(port), '--bind', '127.0.0.1', '--dir', directory],
    ...['--save', '', '--appendonly', 'no', '--requirepass', redisPassword],
  ],
};

export const etcdCommand: ServerCommand = {
  command: 'etcd',
  arguments({ ports: [port, peerPort], directory }) {
    const client = `http://127.0.0.1:${port}`;
    const peer = `http://127.0.0.1:${peerPort}`;
    return [
      ...['--data-dir', `${directory}/data`],
      ...['--listen-client-urls', client, '--advertise-client-urls', client],
      ...['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer],
      ...['--initial-cluster', `default=${peer}`],
    ];
  },
  async isUp(port) {
    const answer = await fetch(`http://127.0.0.1:${port}/health`).catch(() => undefined);
    return (await answer?.text())?.includes('"true"') === true;
  },
};

/** Starts a server on free ports. */
export async function startServer(server: ServerCommand): Promise<RegistryServer> {
  const ports = await freePorts(2);
  const [port = 0] = ports;
  let child: ChildProcess | undefined;
  let directory: string | undefined;
  const endWithUs = (): void => void child?.kill('SIGKILL');
  process.once('exit', endWithUs);

  async function stop(): Promise<void> {
    if (child === undefined || directory === undefined) return;
    const stopped = child;
    child = undefined;
    if (stopped.exitCode === null && stopped.signalCode === null) {
      const exited = new Promise((resolve) => stopped.once('exit', resolve));
      stopped.kill('SIGKILL');
      await exited;
    }
    await rm(directory, { recursive: true, force: true });
  }

  async function start(): Promise<void> {
    directory = await mkdtemp(path.join(tmpdir(), 'kommander-registry-'));
    const started = spawn(server.command, server.arguments({ ports, directory }), {
      cwd: directory,
      env: { PATH: searchPath },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    child = started;
    let said = '';
    for (const stream of [started.stdout, started.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        said = (said + text).slice(-2_000);
      });
    }
    while (!(await (server.isUp?.(port) ?? accepts(port)))) {
      if (started.exitCode !== null) throw new Error(`${server.command} ended: ${said}`);
      await sleep(20);
    }
  }

  await start();
  return {
    port,
    stop,
    start,
    async [Symbol.asyncDispose]() {
      process.off('exit', endWithUs);
      await stop();
    },
  };
}

function accepts(port: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = connect(port, '127.0.0.1');
  socket.on('connect', () => resolve(true));
  socket.on('error', () => resolve(false));
  return promise.finally(() => socket.destroy());
}

/** Waits until `isSo`; the test's own timeout ends a wait in vain. */
export async function until(isSo: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await isSo())) await sleep(20);
}

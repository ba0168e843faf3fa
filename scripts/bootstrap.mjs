// What every command of package.json needs first: installed packages, a Node that runs TypeScript, a build. Plain
// JavaScript for Node 20, because on a fresh clone there is nothing else. All of its talk goes to stderr: stdout
// belongs to the command.

import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { constants } from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';

export const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));

/** Milliseconds between two looks at whether npm is still there. */
const orphanPollMs = 500;

const isWindows = process.platform === 'win32';

/** Installs the locked packages when they are missing or older than the lock file. */
export function install() {
  const installed = modifiedMs('node_modules/.package-lock.json');
  const wanted = modifiedMs('package-lock.json');
  if (installed !== undefined && wanted !== undefined && installed >= wanted) return;
  note('installing packages (npm ci)');
  // The tools are development dependencies: they are wanted whatever NODE_ENV says.
  quietly('npm', ['ci', '--include=dev', '--no-audit', '--no-fund', '--loglevel=error'], {
    shell: isWindows,
  });
}

/** Installs what is missing and compiles `src/` to `dist/`; quick when nothing has changed. */
export function build() {
  install();
  quietly(nodePath(), [tool('typescript', 'tsc'), '-b', 'src/server', 'src/testing']);
}

/** The Node that runs TypeScript files: the one among the packages, or this one if it can. */
export function nodePath() {
  const packaged = path.join(root, 'node_modules/node/bin', isWindows ? 'node.exe' : 'node');
  if (existsSync(packaged)) return packaged;
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major > 22 || (major === 22 && minor >= 18)) return process.execPath;
  return fail(
    `Node ${process.versions.node} is too old and the packaged one was not installed: run "npm rebuild node"`,
  );
}

/**
 * The file behind a command of an installed package.
 *
 * @param {string} packageName
 * @param {string} command
 * @returns {string}
 */
export function tool(packageName, command) {
  const folder = path.join(root, 'node_modules', packageName);
  const { bin } = /** @type {{ bin: string | Record<string, string> }} */ (
    JSON.parse(readFileSync(path.join(folder, 'package.json'), 'utf8'))
  );
  const file = typeof bin === 'string' ? bin : bin[command];
  return file === undefined
    ? fail(`package ${packageName} has no command ${command}`)
    : path.join(folder, file);
}

/**
 * Runs a program in the project's root, gives it our standard streams and signals, and ends this process as it ended.
 *
 * @param {readonly string[]} args of Node
 * @param {string} [cwd]
 */
export function become(args, cwd = root) {
  const child = spawn(nodePath(), args, { cwd, stdio: 'inherit' });
  for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) {
    process.on(signal, () => {
      // A terminal sends Ctrl-C to the child as well; a second one could mean "at once" to it.
      const isFromTerminal = signal === 'SIGINT' && (process.stdin.isTTY || process.stdout.isTTY);
      if (!isFromTerminal) child.kill(signal);
    });
  }
  // npm passes a SIGTERM to the shell between us, which dies of it without a word: nobody is left who could stop us.
  const parent = process.ppid;
  const isUnderNpm = process.env.npm_lifecycle_event !== undefined;
  const watch = setInterval(() => {
    if (!isUnderNpm || process.ppid === parent) return;
    clearInterval(watch);
    child.kill('SIGTERM');
  }, orphanPollMs);
  watch.unref();
  child.on('error', (error) => fail(String(error)));
  child.on('exit', (code, signal) => {
    process.exit(signal === null ? (code ?? 1) : 128 + (constants.signals[signal] ?? 0));
  });
}

/**
 * Runs Node in the project's root to its end, with our standard streams.
 *
 * @param {readonly string[]} args
 * @returns {boolean} whether it succeeded
 */
export function succeeds(args) {
  const { error, status } = spawnSync(nodePath(), args, { cwd: root, stdio: 'inherit' });
  if (error !== undefined) throw error;
  return status === 0;
}

/** @param {string} text */
export function note(text) {
  process.stderr.write(`kommander: ${text}\n`);
}

/**
 * @param {string} text
 * @returns {never}
 */
export function fail(text) {
  note(text);
  process.exit(1);
}

/**
 * @param {string} command
 * @param {readonly string[]} args
 * @param {{ shell?: boolean }} [options]
 */
function quietly(command, args, options = {}) {
  const { error, status } = spawnSync(command, args, {
    ...options,
    cwd: root,
    stdio: ['ignore', 2, 2],
  });
  if (error !== undefined) throw error;
  if (status !== 0) process.exit(status ?? 1);
}

/** @param {string} file */
function modifiedMs(file) {
  return statSync(path.join(root, file), { throwIfNoEntry: false })?.mtimeMs;
}

// Keeps the house: the rules of style and of who may import whom that no compiler or linter here checks. Each test lists
// all offenders with file and line. An exception is written down below with its reason, and must still be needed.

import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { errorCatalogue } from '../src/base/errors.ts';

const root = path.dirname(import.meta.dirname);

/** Files and folders that may read the time, set timers or draw randomness outside of `src/time`, and why. */
const timeExceptions: Readonly<Record<string, string>> = {
  'src/server/demo/': 'drives real processes from outside, and measures them',
  'src/server/http-api.ts': 'bounds how long real sockets may take to drain',
  'src/server/serve.ts': 'bounds the end of a real process',
  'src/transport/grpc-options.ts': 'draws the seed of the reconnect jitter when none is given',
  'src/wal/node-files.ts': 'lets sockets write before a call that blocks the thread',
  'src/wal/rocksdb-library.ts': 'lets sockets write before a call that blocks the thread',
};

/** Files that may be longer than `linesMax`, and why they read better so. */
const lengthExceptions: Readonly<Record<string, string>> = {
  'src/testing/wal-contract.ts': 'one list of the rules of one port',
};
const linesMax = 600;

/** Whom the code of each folder of `src/` may import (DESIGN §3). `raft/types` is that one file. */
const borders: Readonly<Record<string, readonly string[]>> = {
  base: [],
  raft: ['base'],
  ports: ['base', 'raft/types'],
  cluster: ['base', 'raft/types', 'ports'],
  time: ['base', 'ports'],
  wal: ['base', 'raft/types', 'ports'],
  transport: ['base', 'raft/types', 'ports'],
  discovery: ['base', 'ports'],
  host: ['base', 'raft', 'cluster', 'ports', 'time'],
  index: ['base', 'host', 'ports', 'raft/types', 'time'],
  server: ['base', 'index', 'ports', 'raft/types', 'time', 'wal', 'transport', 'discovery'],
  testing: [
    'base',
    'raft',
    'ports',
    'cluster',
    'time',
    'wal',
    'transport',
    'discovery',
    'host',
    'index',
  ],
};
/** Folders without I/O: they import nothing of Node. */
const pureFolders = ['base', 'raft', 'cluster'];

interface SourceFile {
  /** From the project's root, with `/`. */
  readonly path: string;
  readonly lines: readonly string[];
}

const files = ['src', 'test', 'scripts', 'benchmarks', 'examples']
  .flatMap(sourceFiles)
  .filter((file) => !file.path.startsWith('src/transport/generated/'));
const sources = files.filter((file) => file.path.startsWith('src/'));
const code = sources.filter((file) => !isTest(file));

test('every folder of src/ is in the table of borders', () => {
  const folders = new Set(code.map(folderOf));
  expectNone([...folders].filter((folder) => borders[folder] === undefined));
  assert.ok(code.length > 30, 'the files are found at all');
});

test('only src/time reads the time, sets timers or draws randomness', () => {
  const calls =
    'Date\\.now|performance\\.now|Math\\.random|setTimeout|setInterval|setImmediate|getRandomValues';
  const imports = String.raw`random\w+\b.* from 'node:crypto'`;
  const forbidden = new RegExp(`(?<![.\\w])(?:${calls})\\(|\\bnew Date\\(\\)|${imports}`);
  const offenders = code
    .filter((file) => folderOf(file) !== 'time')
    .flatMap((file) => matches(file, forbidden));
  expectOnly(offenders, timeExceptions);
});

test('an import crosses only the borders of the design', () => {
  const offenders = code.flatMap((file) =>
    importsOf(file)
      .filter(({ target }) => target.startsWith('.'))
      .filter(({ target }) => !mayImport(file, resolveImport(file, target)))
      .map(({ at, target }) => `${at} imports ${target}`),
  );
  expectNone(offenders);
});

test('pure folders import nothing of Node and no package', () => {
  const offenders = code
    .filter((file) => pureFolders.includes(folderOf(file)))
    .flatMap((file) => importsOf(file).filter(({ target }) => !target.startsWith('.')))
    .map(({ at, target }) => `${at} imports ${target}`);
  expectNone(offenders);
});

test('code never imports a test', () => {
  const offenders = code.flatMap((file) =>
    importsOf(file)
      .filter(({ target }) => target.endsWith('.test.ts'))
      .map(({ at, target }) => `${at} imports ${target}`),
  );
  expectNone(offenders);
});

test('only the server imports index.ts from inside src/', () => {
  const offenders = sources
    .filter((file) => folderOf(file) !== 'server')
    .flatMap((file) => importsOf(file).map((each) => ({ ...each, file })))
    .filter(({ file, target }) => target.startsWith('.') && isIndex(resolveImport(file, target)))
    .map(({ at, target }) => `${at} imports ${target}`);
  expectNone(offenders);
});

test('a relative import names a file that exists, with its ending', () => {
  const offenders = files.flatMap((file) =>
    importsOf(file)
      .filter(({ target }) => target.startsWith('.'))
      .filter(({ target }) => {
        const isComplete = /\.(?:ts|mjs|json)$/.test(target);
        return !isComplete || !existsSync(path.join(root, resolveImport(file, target)));
      })
      .map(({ at, target }) => `${at} imports ${target}`),
  );
  expectNone(offenders);
});

test('nothing is exported by default', () => {
  expectNone(files.flatMap((file) => matches(file, /^export default\b|\bas default\b/)));
});

test('every file begins with a comment that says what is decided there', () => {
  const offenders = files.filter(
    ({ lines: [first = '', second = ''] }) =>
      !(first.startsWith('#!') ? second : first).startsWith('// '),
  );
  expectNone(offenders.map((file) => file.path));
});

test('no file is longer than it can be read', () => {
  const offenders = files
    .filter((file) => file.lines.length > linesMax)
    .map((file) => `${file.path}: ${file.lines.length} lines`);
  expectOnly(offenders, lengthExceptions);
});

test('nothing is left to be done in a comment', () => {
  // Put together so that this line does not find itself.
  const marks = new RegExp(['TO' + 'DO', 'FIX' + 'ME', 'X' + 'XX', 'HA' + 'CK'].join('|'));
  expectNone(files.flatMap((file) => matchesRaw(file, marks)));
});

test('names say what a thing is: no Manager, Helper, Util, Common, Impl', () => {
  const declared =
    /\b(?:class|interface|type|function|const|let)\s+\w*(?:Manager|Helper|Util|Common|Impl)s?(?![a-z])/;
  const misnamed = files
    .filter((file) => /(?:^|[-/])(?:manager|helper|util|common|impl)s?(?=[-./])/.test(file.path))
    .map((file) => file.path);
  const declaring = files.filter((file) => !isTest(file));
  expectNone([...declaring.flatMap((file) => matches(file, declared)), ...misnamed]);
});

test('every error code is provoked by a test', () => {
  const proofs = files
    .filter((file) => isTest(file) && file.path !== 'test/tidy.test.ts')
    .flatMap((file) => file.lines);
  const missing = Object.keys(errorCatalogue).filter(
    (errorCode) => !proofs.some((line) => new RegExp(`['"]${errorCode}['"]`).test(line)),
  );
  expectNone(missing, 'codes without a test');
});

interface Manifest {
  readonly exports: Readonly<Record<string, string>>;
  readonly bin: Readonly<Record<string, string>>;
  readonly dependencies: Readonly<Record<string, string>>;
  readonly devDependencies: Readonly<Record<string, string>>;
  readonly optionalDependencies: Readonly<Record<string, string>>;
}
const manifest = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')) as Manifest;

test('everything that the package exports has a source', () => {
  const targets = [...Object.values(manifest.exports), ...Object.values(manifest.bin)];
  expectNone(
    targets.filter((target) => {
      const source = target.replace(/^\.\/dist\//, 'src/').replace(/\.js$/, '.ts');
      return !existsSync(path.join(root, source));
    }),
  );
});

test('versions of packages are exact', () => {
  const { dependencies, devDependencies, optionalDependencies } = manifest;
  const versions = { ...dependencies, ...devDependencies, ...optionalDependencies };
  expectNone(
    Object.entries(versions)
      .filter(([, version]) => !/^(?:npm:[\w@/.-]+@)?\d+\.\d+\.\d+(?:-[\w.]+)?$/.test(version))
      .map(([name, version]) => `${name}@${version}`),
  );
});

test('the lock file names no download host', () => {
  const lock = readFileSync(path.join(root, 'package-lock.json'), 'utf8');
  expectNone(lock.match(/"resolved": .*/g) ?? []);
});

function sourceFiles(folder: string): SourceFile[] {
  if (!existsSync(path.join(root, folder))) return [];
  return readdirSync(path.join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && /\.(?:ts|mjs)$/.test(entry.name))
    .map((entry) => path.join(entry.parentPath, entry.name))
    .map((file) => ({
      path: path.relative(root, file).replaceAll(path.sep, '/'),
      lines: readFileSync(file, 'utf8').trimEnd().split('\n'),
    }))
    .sort((a, b) => (a.path < b.path ? -1 : 1));
}

/** Test files, everything in `test/`, and the contract suites. */
function isTest(file: SourceFile): boolean {
  return /\.test\.ts$|-contract\.ts$/.test(file.path) || file.path.startsWith('test/');
}

function isIndex(file: string): boolean {
  return file === 'src/index.ts' || file.endsWith('/index.ts');
}

/** The folder of `src/` that a file belongs to; `index` for the files of `src/` itself. */
function folderOf(file: SourceFile): string {
  const [, folder = '', rest] = file.path.split('/');
  return rest === undefined ? folder.replace(/\.ts$/, '') : folder;
}

function mayImport(file: SourceFile, target: string): boolean {
  const from = folderOf(file);
  const to = folderOf({ path: target, lines: [] });
  const allowed = borders[from] ?? [];
  return from === to || allowed.includes(to) || allowed.includes(target.slice(4, -3));
}

function resolveImport(file: SourceFile, target: string): string {
  return path.posix.join(path.posix.dirname(file.path), target);
}

/** What a file imports or re-exports, statically or not. */
function importsOf(file: SourceFile): { at: string; target: string }[] {
  return file.lines.flatMap((line, position) => {
    if (isComment(line)) return [];
    const found = line.matchAll(/\b(?:from|import)[ (]+'([^']+)'/g);
    return [...found].map(([, target = '']) => ({ at: `${file.path}:${position + 1}`, target }));
  });
}

/** Places in code, not in comments. */
function matches(file: SourceFile, pattern: RegExp): string[] {
  return matchesRaw(
    { ...file, lines: file.lines.map((line) => (isComment(line) ? '' : line)) },
    pattern,
  );
}

function matchesRaw(file: SourceFile, pattern: RegExp): string[] {
  return file.lines.flatMap((line, position) =>
    pattern.test(line) ? [`${file.path}:${position + 1}: ${line.trim()}`] : [],
  );
}

function isComment(line: string): boolean {
  return /^\s*(?:\/\/|\*|\/\*)/.test(line);
}

function expectNone(offenders: readonly string[], what = 'offenders'): void {
  assert.ok(offenders.length === 0, `${offenders.length} ${what}:\n  ${offenders.join('\n  ')}`);
}

/** Fails with the offenders that no exception covers, and with the exceptions that nothing needs any more. */
function expectOnly(
  offenders: readonly string[],
  exceptions: Readonly<Record<string, string>>,
): void {
  const covers = (exception: string, offender: string): boolean =>
    offender.startsWith(exception.endsWith('/') ? exception : `${exception}:`);
  const excepted = Object.keys(exceptions);
  expectNone(offenders.filter((offender) => !excepted.some((each) => covers(each, offender))));
  expectNone(
    excepted.filter((each) => !offenders.some((offender) => covers(each, offender))),
    'exceptions that are not needed any more',
  );
}

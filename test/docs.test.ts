// The documentation is executed and compared with the code. In `docs/guides` a fence ```ts run is code that runs: all of
// them on one page are one program, in their order, and the page's ```text output fences are what it prints. A fence
// ```ts file=NAME is a file that a test of its own runs. Links lead somewhere; tables name what the code has. Like the
// README's test, it runs the built package: `npm test` builds first.

import assert from 'node:assert/strict';
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { existsSync, globSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { consulDiscovery } from '../src/discovery/consul.ts';
import { dnsDiscovery } from '../src/discovery/dns.ts';
import { etcdDiscovery } from '../src/discovery/etcd.ts';
import { checkedMulticastOptions } from '../src/discovery/multicast.ts';
import { redisDiscovery } from '../src/discovery/redis.ts';
import { registrySettings } from '../src/discovery/registry-options.ts';
import { staticDiscovery } from '../src/discovery/static.ts';
import type { NodeOptions, NodeStatus } from '../src/host/api.ts';
import { metaKeys } from '../src/host/meta.ts';
import { openNode } from '../src/host/node.ts';
import { checkOptions } from '../src/host/options.ts';
import { decodePayload } from '../src/host/payload.ts';
import { decodeRun, readRunHeader } from '../src/ports/run.ts';
import { Lane } from '../src/ports/transport.ts';
import { greetingTo } from '../src/transport/greeting.ts';
import { greetingHeaders } from '../src/transport/grpc-framing.ts';
import { checkedOptions } from '../src/transport/grpc-options.ts';
import { memoryNetwork } from '../src/transport/memory.ts';
import { memoryWal } from '../src/wal/memory.ts';
import { KeyKind } from '../src/wal/rocksdb-keys.ts';
import { freePorts } from './support/ports.ts';

const root = path.dirname(import.meta.dirname);
const execute = promisify(execFile);

/** Milliseconds for one program of the documentation. */
const programMsMax = 60_000;

interface Fence {
  readonly language: string;
  /** What stands behind the language. */
  readonly mark: string;
  readonly text: string;
}

function read(file: string): string {
  return readFileSync(path.join(root, file), 'utf8');
}

function fencesOf(markdown: string): Fence[] {
  return [...markdown.matchAll(/^```(\w+)([^\n]*)\n([\s\S]*?)^```$/gm)].map(
    ([, language = '', mark = '', text = '']) => ({ language, mark: mark.trim(), text }),
  );
}

const guides = globSync('docs/guides/*.md', { cwd: root }).sort();

for (const guide of guides) {
  const fences = fencesOf(read(guide));
  const program = fences.filter(({ mark }) => mark === 'run').map(({ text }) => text);
  if (program.length === 0) continue;
  const expected = fences.filter(({ mark }) => mark === 'output').map(({ text }) => text);
  test(`the code of ${guide} compiles, runs, and prints what the page says`, async () => {
    await inDirectory(async (directory) => {
      const text = await withFreePorts(program.join('\n'));
      await writeFile(path.join(directory, 'program.ts'), text);
      await typeCheck(directory);
      const printed = await run(directory, 'program.ts');
      if (expected.length > 0) assert.equal(printed, expected.join(''));
    });
  });
}

test('every mark of a fence in the guides is one that is understood', () => {
  const strange = guides.flatMap((guide) =>
    fencesOf(read(guide))
      .filter(({ mark }) => mark !== '' && !/^(?:run|output|file=\S+)$/.test(mark))
      .map(({ mark }) => `${guide}: ${mark}`),
  );
  assert.deepEqual(strange, []);
});

for (const [example, expected] of [
  ['counter.ts', /^a added 7: the total is 7\nb .* 14\nc .* 21\n$/],
  ['lock-service.ts', /^anna prints\nbert waits: true\nbert prints\nanna is refused\n$/],
  [
    'bank.test.ts',
    /violation at seed \d+: A state machine answers .* on every replica[\s\S]*pass 2/,
  ],
] as const) {
  test(`the example ${example} runs and prints what it should`, async () => {
    await inDirectory(async (directory) => {
      const text = await withFreePorts(read(`examples/${example}`));
      await writeFile(path.join(directory, example), text);
      assert.match(await run(directory, example), expected);
    });
  });
}

test('the service of the first guide serves from three processes, survives a kill, and ends in order', async () => {
  const [file] = fencesOf(read('docs/guides/first-service.md')).filter(
    ({ mark }) => mark === 'file=counter.ts',
  );
  assert.ok(file, 'the guide has the file counter.ts');
  await inDirectory(async (directory) => {
    const text = await withFreePorts(file.text);
    await writeFile(path.join(directory, 'counter.ts'), text);
    await typeCheck(directory);
    const services = new Map<string, { readonly child: ChildProcess; readonly port: number }>();
    try {
      const nodeIds = ['a', 'b', 'c'];
      for (const [at, port] of (await freePorts(nodeIds.length)).entries()) {
        const nodeId = nodeIds[at] ?? '';
        const args = ['counter.ts', nodeId, String(port)];
        const child = spawn(process.execPath, args, { cwd: directory });
        child.stdout.resume();
        child.stderr.pipe(process.stderr);
        services.set(nodeId, { child, port });
      }
      const ask = (nodeId: string, to: string, method = 'GET'): Promise<string> =>
        answer(`http://127.0.0.1:${services.get(nodeId)?.port}${to}`, method);
      assert.equal(await ask('b', '/5', 'POST'), '5\n');
      assert.equal(await ask('c', '/37', 'POST'), '42\n');
      assert.equal(await ask('a', '/'), '42\n');
      const status = JSON.parse(await ask('a', '/status')) as NodeStatus;
      assert.equal(status.state, 'running');
      const leader = status.partitions[1]?.leader ?? '';
      services.get(leader)?.child.kill('SIGKILL');
      const left = [...services.keys()].filter((nodeId) => nodeId !== leader);
      for (const nodeId of left) assert.equal(await ask(nodeId, '/'), '42\n');
      const ended = left.map((nodeId) => endOf(services.get(nodeId)?.child));
      for (const nodeId of left) services.get(nodeId)?.child.kill('SIGTERM');
      assert.deepEqual(await Promise.all(ended), [0, 0]);
    } finally {
      for (const { child } of services.values()) child.kill('SIGKILL');
    }
  });
});

test('every relative link of the documentation leads to a file and a heading that exist', () => {
  const pages = [
    'README.md',
    'ARCHITECTURE.md',
    'CONTRIBUTING.md',
    ...globSync('{docs,examples}/**/*.md', { cwd: root }),
  ];
  assert.ok(pages.length > 10, 'the pages are found at all');
  const dead = pages.flatMap((page) =>
    linksOf(read(page))
      .filter((link) => !/^[a-z]+:/.test(link))
      .filter((link) => !isAlive(page, link))
      .map((link) => `${page}: ${link}`),
  );
  assert.deepEqual(dead, []);
});

const reference = 'docs/reference/api.md';

const someOptions: NodeOptions = {
  nodeId: 'a',
  listen: '127.0.0.1:0',
  members: { a: '127.0.0.1:1' },
  wal: memoryWal(),
  transport: memoryNetwork().transport(),
  discovery: staticDiscovery({ a: '127.0.0.1:1' }),
};

test('the reference has every option of a node, with the bounds and the default of the code', () => {
  const rows = rowsOf(section(read(reference), '## Options'));
  const refusal = messageOf(() => checkOptions({ ...someOptions, noOption: 1 } as NodeOptions));
  const names = /the options are (.*)$/.exec(refusal)?.[1]?.split(', ') ?? [];
  assert.ok(names.length > 20, 'the code lists its options');
  assert.deepEqual([...rows.keys()].sort(), names.sort());
  const settings = checkOptions(someOptions);
  for (const name of names) {
    const bad = { ...someOptions, [name]: Number.NaN } as NodeOptions;
    const bounds = /whole number from (\d+) to (\d+)/.exec(
      refusalOf(() => checkOptions(bad)) ?? '',
    );
    if (bounds === null) continue;
    const [range = '', byDefault = ''] = rows.get(name)?.slice(-2) ?? [];
    assert.deepEqual(numbersIn(range).slice(0, 2), [Number(bounds[1]), Number(bounds[2])], name);
    assert.equal(numbersIn(byDefault)[0], settings[name as keyof typeof settings], name);
  }
});

test('the reference has every option of the gRPC transport, with the bounds and the default of the code', () => {
  const rows = rowsOf(section(read(reference), '## grpcTransport'));
  const defaults = checkedOptions({});
  assert.deepEqual([...rows.keys()].sort(), Object.keys(defaults).sort());
  for (const [name, byDefault] of Object.entries(defaults)) {
    const refusal = messageOf(() => checkedOptions({ [name]: Number.NaN }));
    const bounds = /between (\d+) and (\d+)/.exec(refusal);
    if (bounds === null) continue;
    const [range = '', shown = ''] = rows.get(name)?.slice(-2) ?? [];
    assert.equal(numbersIn(range).at(-1), Number(bounds[2]), name);
    if (name === 'seed') continue;
    // `backoffMsMax` begins at another option.
    if (name !== 'backoffMsMax') assert.equal(numbersIn(range)[0], Number(bounds[1]), name);
    assert.equal(numbersIn(shown)[0], byDefault, name);
  }
});

test('the reference has every option of multicast, with the bounds and the default of the code', () => {
  const rows = rowsOf(section(read(reference), '## discovery'));
  const defaults = checkedMulticastOptions({});
  const names = Object.keys(defaults).filter((name) => name !== 'family');
  assert.deepEqual([...rows.keys()].sort(), names.sort());
  for (const name of ['port', 'intervalMs'] as const) {
    const refusal = messageOf(() => checkedMulticastOptions({ [name]: Number.NaN }));
    const [, ...bounds] = /between (\d+) and (\d+)/.exec(refusal) ?? [];
    const [range = '', shown = ''] = rows.get(name)?.slice(-2) ?? [];
    assert.deepEqual(numbersIn(range), bounds.map(Number), name);
    assert.equal(numbersIn(shown)[0], defaults[name], name);
  }
  assert.equal(numbersIn(rows.get('expiryMs')?.at(-1) ?? '')[0], defaults.expiryMs);
  for (const name of ['group', 'cluster'] as const) {
    assert.equal(rows.get(name)?.at(-1), `\`${defaults[name]}\``);
  }
});

test('the reference has every option of the registries, with the bounds and the defaults of the code', () => {
  const rows = rowsOf(section(read(reference), '## registries'));
  const registries: Readonly<Record<string, (options: object) => unknown>> = {
    redis: (options) => redisDiscovery({ url: 'redis://h', ...options }),
    etcd: (options) => etcdDiscovery({ url: 'http://h', ...options }),
    consul: (options) => consulDiscovery({ url: 'http://h', ...options }),
    dns: (options) => dnsDiscovery({ name: 'h', port: 1, ...options }),
  };
  const described = new Set<string>();
  for (const [registry, make] of Object.entries(registries)) {
    const refusal = messageOf(() => make({ noOption: 1 }));
    const names = /the options are (.*)$/.exec(refusal)?.[1]?.split(', ') ?? [];
    assert.ok(names.length > 1, 'the code lists its options');
    for (const name of names) {
      const [, of = '', , range = ''] = rows.get(name) ?? [];
      assert.ok(of === 'all' || of.split(', ').includes(registry), `${name} of ${registry}`);
      described.add(name);
      const bounds = /whole number from (\d+) to (\d+)/.exec(
        refusalOf(() => make({ [name]: Number.NaN })) ?? '',
      );
      if (bounds === null) continue;
      for (const bound of bounds.slice(1, 3)) {
        assert.ok(numbersIn(range).includes(Number(bound)), `${name} of ${registry}: ${bound}`);
      }
    }
  }
  assert.deepEqual([...rows.keys()].sort(), [...described].sort());
  const { cluster, ...defaults } = registrySettings({}, []);
  assert.equal(rows.get('cluster')?.at(-1), `\`${cluster}\``);
  for (const [name, byDefault] of Object.entries(defaults)) {
    assert.equal(numbersIn(rows.get(name)?.at(-1) ?? '')[0], byDefault, name);
  }
});

test('the reference has a heading for every method of a node, with the errors that the code names', async () => {
  const node = await openNode(someOptions);
  await node.close();
  const page = section(read(reference), '## Methods');
  const source = read('src/host/api.ts');
  for (const name of Object.keys(node)) {
    if (name === 'nodeId') continue;
    const body = section(page, new RegExp(`^### ${name}\\(`, 'm'));
    const declared = [...source.matchAll(/\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\s*(\w+)[<(]/g)];
    for (const [, comment = ''] of declared.filter(([, , each]) => each === name)) {
      const thrown = [...comment.matchAll(/@throws([^@]*)/g)].flatMap(
        ([, text = '']) => text.match(/\b[A-Z]+(?:_[A-Z]+)+\b|\bABORTED\b/g) ?? [],
      );
      const missing = thrown.filter((code) => !body.includes(`\`${code}\``));
      assert.deepEqual(missing, [], name);
    }
  }
});

test('the reference has every event, every field of the status, and everything that is exported', () => {
  const page = read(reference);
  const source = read('src/host/api.ts');
  const events = rowsOf(section(page, '## Events'));
  assert.deepEqual([...events.keys()].sort(), membersOf(source, 'NodeEvents').sort());
  const status = rowsOf(section(page, '## Status'));
  const fields = [...membersOf(source, 'NodeStatus'), ...membersOf(source, 'PartitionStatus')];
  assert.deepEqual(
    fields.filter((field) => !status.has(field)),
    [],
  );
  const exported = [...read('src/index.ts').matchAll(/\{([^}]*)\} from/g)]
    .flatMap(([, names = '']) => names.split(','))
    .map((name) => name.replace(/^\s*type /, '').trim())
    .filter((name) => name !== '');
  assert.ok(exported.length > 40, 'the exports are found');
  assert.deepEqual(
    exported.filter((name) => !new RegExp(`\\b${name}\\b`).test(page)),
    [],
  );
  const { exports } = JSON.parse(read('package.json')) as { exports: Record<string, string> };
  for (const entry of Object.keys(exports)) {
    assert.ok(page.includes(`'kommander${entry.slice(1)}'`), entry);
  }
});

test('the page of the wire format has every message, item field and part of the greeting', () => {
  const page = read('docs/internals/wire-format.md');
  const proto = read('proto/kommander/v1/raft.proto');
  const messages = [...proto.matchAll(/^message (\w+)/gm)].map(([, name = '']) => name);
  const identity = { clusterId: 'x', nodeId: 'a', incarnation: 1, startId: 'one' };
  const headers = Object.keys(greetingHeaders(greetingTo('b', Lane.control, identity)));
  const missing = [...messages, ...headers].filter((name) => !page.includes(`\`${name}\``));
  assert.deepEqual(missing, []);
  const itemFields = [...section(proto, 'message FrameItem').matchAll(/^ {4}\w+ (\w+) = (\d+);/gm)];
  assert.ok(itemFields.length >= 15, 'the items are found');
  const rows = rowsOf(section(page, '## Frames'));
  for (const [, name = '', field] of itemFields) assert.equal(rows.get(name)?.[1], field, name);
});

test('the page of the log format shows a run that is one, and every kind of key', () => {
  const page = read('docs/internals/log-format.md');
  const [shown] = fencesOf(page).filter(({ mark }) => mark === 'run');
  assert.ok(shown, 'the page shows the bytes of a run');
  const hex = shown.text.replace(/ {2,}.*$/gm, '').replace(/\s/g, '');
  const bytes = Uint8Array.from(Buffer.from(hex, 'hex'));
  assert.deepEqual(readRunHeader(bytes), {
    firstIndex: 7,
    term: 2,
    entryCount: 2,
    totalBytes: bytes.byteLength,
  });
  const entries = decodeRun(bytes);
  const [first, second] = entries.map((entry) => entry && decodePayload(entry));
  assert.deepEqual([first?.type, second?.type], ['add', 'add']);
  const texts = [first, second].map((payload) => new TextDecoder().decode(payload?.data));
  assert.deepEqual(texts, ['5', '37']);
  const rows = rowsOf(section(page, '## Keys of the RocksDB store'));
  assert.deepEqual([...rows.keys()], Object.values(KeyKind).map(String));
  for (const key of Object.values(metaKeys)) assert.ok(page.includes(`\`${key}\``), key);
});

/** A directory inside the package, so that what runs there finds `kommander` as a user of the package does. */
async function inDirectory(body: (directory: string) => Promise<void>): Promise<void> {
  await mkdir(path.join(root, '.kommander'), { recursive: true });
  const directory = await mkdtemp(path.join(root, '.kommander', 'docs-'));
  try {
    await body(directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function run(directory: string, file: string): Promise<string> {
  const { stdout } = await execute(process.execPath, [file], {
    cwd: directory,
    timeout: programMsMax,
    env: { ...process.env, NODE_TEST_CONTEXT: undefined, NO_COLOR: '1' },
  });
  return stdout;
}

/** As strictly as most users do. */
async function typeCheck(directory: string): Promise<void> {
  const options = {
    target: 'es2024',
    lib: ['es2024', 'esnext.disposable'],
    module: 'nodenext',
    strict: true,
    noEmit: true,
    allowImportingTsExtensions: true,
    erasableSyntaxOnly: true,
    verbatimModuleSyntax: true,
    types: ['node'],
    typeRoots: [path.join(root, 'node_modules/@types')],
  };
  const project = { compilerOptions: options, include: ['*.ts'] };
  await writeFile(path.join(directory, 'tsconfig.json'), JSON.stringify(project));
  const compiler = path.join(root, 'node_modules/typescript/bin/tsc');
  try {
    await execute(process.execPath, [compiler, '-p', directory], { timeout: programMsMax });
  } catch (error) {
    const { stdout } = error as { stdout?: string };
    throw new Error(`it does not compile:\n${stdout}`, { cause: error });
  }
}

/** Every endpoint with a port from 8100 to 8199 becomes a free one on this machine. */
async function withFreePorts(text: string): Promise<string> {
  let replaced = text;
  for (const endpoint of new Set(text.match(/\b\d+\.\d+\.\d+\.\d+:81\d\d\b/g))) {
    replaced = replaced.replaceAll(endpoint, `127.0.0.1:${(await freePorts(1))[0]}`);
  }
  return replaced;
}

/** Asks until there is an answer with status 200: a service starts, or changes its leader. */
async function answer(url: string, method: string): Promise<string> {
  for (let attempt = 1; ; attempt++) {
    const response = await fetch(url, { method }).catch(() => undefined);
    const text = await response?.text();
    if (response?.status === 200 && text !== undefined) return text;
    assert.ok(attempt < 300, `${method} ${url}: ${response?.status} ${text}`);
    // What is open may have been written: the test would count it twice.
    assert.ok(!/OUTCOME_UNKNOWN|PROPOSAL_TIMEOUT/.test(text ?? ''), text);
    await sleep(100);
  }
}

function endOf(child: ChildProcess | undefined): Promise<number | null> {
  return new Promise((resolve) => {
    child?.once('exit', resolve);
  });
}

/** A heading, or what `start` finds, and all that follows up to the next heading of its rank or a higher one. */
function section(markdown: string, start: string | RegExp): string {
  const at = typeof start === 'string' ? markdown.indexOf(start) : markdown.search(start);
  assert.ok(at >= 0, `there is a section ${String(start)}`);
  const rest = markdown.slice(at);
  const rank = /^#+/.exec(rest)?.[0].length ?? 0;
  const next = new RegExp(rank === 0 ? '^}$' : `^#{1,${rank}} `, 'm');
  const bodyAt = rest.indexOf('\n') + 1;
  const end = rest.slice(bodyAt).search(next);
  return end < 0 ? rest : rest.slice(0, bodyAt + end);
}

/** Rows of the tables of a section: cells by the name in the first one. Several names share a row with commas. */
function rowsOf(markdown: string): Map<string, string[]> {
  const rows = new Map<string, string[]>();
  for (const line of markdown.split('\n')) {
    if (!line.startsWith('| `')) continue;
    const cells = line.split(/(?<!\\)\|/).map((cell) => cell.trim());
    const names = (cells[1] ?? '').matchAll(/`([^`]+)`/g);
    for (const [, name = ''] of names) rows.set(name, cells.slice(1, -1));
  }
  return rows;
}

/** The numbers of a cell, with `_` or `,` between digits, and KiB, MiB, GiB. */
function numbersIn(cell: string): number[] {
  const units: Readonly<Record<string, number>> = { KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 };
  return [...cell.matchAll(/(\d[\d,_]*)(?: (KiB|MiB|GiB))?/g)].map(
    ([, digits = '', unit = '']) => Number(digits.replace(/[,_]/g, '')) * (units[unit] ?? 1),
  );
}

/** Names of an interface's members. */
function membersOf(source: string, name: string): string[] {
  const body = new RegExp(`^export interface ${name} \\{([\\s\\S]*?)^\\}`, 'm').exec(source)?.[1];
  assert.ok(body, `there is an interface ${name}`);
  return [...body.matchAll(/^ {2}(?:readonly )?(\w+)\??:/gm)].map(([, member = '']) => member);
}

function messageOf(call: () => unknown): string {
  const message = refusalOf(call);
  assert.ok(message !== undefined, 'a bad value is refused');
  return message;
}

function refusalOf(call: () => unknown): string | undefined {
  try {
    call();
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** Targets of links, outside of code. */
function linksOf(markdown: string): string[] {
  const text = markdown.replace(/^```[\s\S]*?^```$/gm, '').replace(/`[^`\n]*`/g, 'code');
  return [...text.matchAll(/\]\(([^)\s]+)\)/g)].map(([, link = '']) => link);
}

function isAlive(page: string, link: string): boolean {
  const [file = '', anchor] = link.split('#');
  const target = file === '' ? page : path.posix.join(path.posix.dirname(page), file);
  if (!existsSync(path.join(root, target))) return false;
  return anchor === undefined || anchorsOf(read(target)).has(anchor);
}

/** Headings as GitHub names them in links. */
function anchorsOf(markdown: string): Set<string> {
  const headings = markdown.replace(/^```[\s\S]*?^```$/gm, '').matchAll(/^#+ (.*)$/gm);
  return new Set(
    [...headings].map(([, heading = '']) =>
      heading
        .toLowerCase()
        .replace(/[^\p{L}\p{N} _-]/gu, '')
        .replaceAll(' ', '-'),
    ),
  );
}

// Writes the files that are made from others: `node scripts/generated-files.ts [--check] [PREFIX]`. With `--check` it
// writes nothing and says which files are out of date; PREFIX limits it to paths that begin so.

import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { fail, nodePath, note, root, tool } from './bootstrap.mjs';
import { errorsReference } from './errors-reference.ts';

const args = process.argv.slice(2);
const isCheck = args.includes('--check');
const prefix = args.find((arg) => !arg.startsWith('--')) ?? '';

const stale = [...generatedFiles()].filter(([file, text]) => {
  const target = path.join(root, file);
  return !existsSync(target) || readFileSync(target, 'utf8') !== text;
});
if (isCheck) {
  if (stale.length > 0) {
    fail(`out of date: ${stale.map(([file]) => file).join(', ')}: run "npm run fix"`);
  }
  note('generated files are up to date');
} else {
  for (const [file, text] of stale) {
    mkdirSync(path.dirname(path.join(root, file)), { recursive: true });
    writeFileSync(path.join(root, file), text);
    note(`wrote ${file}`);
  }
}

/** Path and text of every generated file under `prefix`. */
function generatedFiles(): Map<string, string> {
  const files = new Map([['docs/reference/errors.md', errorsReference()]]);
  if ('src/transport/generated'.startsWith(prefix) || prefix.startsWith('src/')) {
    for (const [file, text] of wireCode()) files.set(file, text);
  }
  return new Map([...files].filter(([file]) => file.startsWith(prefix)));
}

/** TypeScript made of `proto/`, as `buf.gen.yaml` says. */
function wireCode(): Map<string, string> {
  const folder = mkdtempSync(path.join(tmpdir(), 'kommander-generated-'));
  try {
    const { status, stdout, stderr } = spawnSync(
      nodePath(),
      [tool('@bufbuild/buf', 'buf'), 'generate', '--output', folder],
      { cwd: root, encoding: 'utf8' },
    );
    if (status !== 0) fail(`buf generate failed:\n${stdout}${stderr}`);
    return new Map(
      readdirSync(folder, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => path.join(entry.parentPath, entry.name))
        .map((file) => [path.relative(folder, file), readFileSync(file, 'utf8')]),
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
}

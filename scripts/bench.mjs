// `npm run bench -- NAME [arguments]`: builds and runs `benchmarks/NAME.ts`; without a name it lists the names.

import { readdirSync } from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { become, build, fail, note, root } from './bootstrap.mjs';

const [name, ...args] = process.argv.slice(2);
const names = readdirSync(path.join(root, 'benchmarks'))
  .filter((file) => file.endsWith('.ts') && !file.endsWith('.test.ts'))
  .map((file) => file.slice(0, -'.ts'.length));
if (name === undefined) {
  note('npm run bench -- NAME [arguments], where NAME is one of:');
  for (const each of names) process.stdout.write(`${each}\n`);
} else if (!names.includes(name)) {
  fail(`there is no benchmark "${name}": choose ${names.join(', ')}`);
} else {
  build();
  become(['--expose-gc', `benchmarks/${name}.ts`, ...args]);
}

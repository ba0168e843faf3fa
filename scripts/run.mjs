// Runs a TypeScript file of this project: `node scripts/run.mjs FILE [arguments]`. Installs if needed; nothing is built.

import process from 'node:process';
import { become, fail, install } from './bootstrap.mjs';

const [file, ...args] = process.argv.slice(2);
if (file === undefined) fail('usage: node scripts/run.mjs FILE [arguments]');
install();
become([file, ...args]);

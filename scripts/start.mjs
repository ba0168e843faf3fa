// `npm start`: installs and builds if needed, then runs the demo cluster. Arguments are those of `kommander demo`.

import process from 'node:process';
import { become, build } from './bootstrap.mjs';

build();
become(['dist/server/main.js', 'demo', ...process.argv.slice(2)]);

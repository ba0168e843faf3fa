// `npm run build`: installs if needed and compiles `src/` to `dist/`.

import { build } from './bootstrap.mjs';

build();

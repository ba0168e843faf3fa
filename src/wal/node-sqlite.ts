// `node:sqlite`, loaded when it is needed. Node.js calls it experimental on standard error; what this project uses of it
// (open, exec, prepare, blobs) is as old as the module, so its users are not told every time that a store is opened.

import process from 'node:process';

type Sqlite = typeof import('node:sqlite');

let loading: Promise<Sqlite> | undefined;

/** The module, without its warning. */
export function importSqlite(): Promise<Sqlite> {
  loading ??= load();
  return loading;
}

async function load(): Promise<Sqlite> {
  const warn = process.emitWarning.bind(process);
  const quiet = (warning: string | Error, ...rest: unknown[]): void => {
    if (String(warning).includes('SQLite is an experimental feature')) return;
    Reflect.apply(warn, process, [warning, ...rest]);
  };
  process.emitWarning = quiet;
  try {
    return await import('node:sqlite');
  } finally {
    process.emitWarning = warn;
  }
}

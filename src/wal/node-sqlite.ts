// `node:sqlite`, loaded when it is needed. Node.js calls it experimental on standard error; what this project uses of it
// (open, exec, prepare, blobs) is as old as the module, so its users are not told every time that a store is opened.

import process from 'node:process';

/** The module, without its warning. */
export async function importSqlite(): Promise<typeof import('node:sqlite')> {
  const { emitWarning } = process;
  process.emitWarning = (warning: string | Error, ...rest: unknown[]): void => {
    if (String(warning).includes('SQLite is an experimental feature')) return;
    Reflect.apply(emitWarning, process, [warning, ...rest]);
  };
  try {
    return await import('node:sqlite');
  } finally {
    process.emitWarning = emitWarning;
  }
}

// The observer port on `pino`: structured events become JSON lines on standard error, so that standard output stays
// with the program. Lines are written asynchronously and from a bounded buffer: a reader that stalls loses lines, it
// does not stall the node.

import { pino, stdSerializers } from 'pino';
import type { Observer } from '../ports/observer.ts';
import type { LogLevel } from './serve-options.ts';

/** Bytes of log lines that wait to be written, at most; what comes beyond is dropped. */
const bufferedBytesMax = 4_194_304;
const standardError = 2;

export interface Log {
  readonly observer: Observer;
  /** Writes what is buffered; for the end of the process. */
  flush(): void;
}

/** Opens the log of this process. Every line carries `fields`. */
export function openLog(options: {
  readonly level: LogLevel;
  readonly fields: Readonly<Record<string, string>>;
}): Log {
  const target = pino.destination({
    dest: standardError,
    sync: false,
    minLength: 0,
    maxLength: bufferedBytesMax,
  });
  target.on('error', () => {
    // Nobody reads the log any more; the node does not depend on it.
  });
  const logger = pino(
    {
      level: options.level,
      base: options.fields,
      // As JSON an error would be its own fields only: no message, no stack, no cause.
      serializers: { error: stdSerializers.errWithCause },
    },
    target,
  );
  return {
    observer: ({ level, name, fields }) => logger[level](fields, name),
    flush: () => target.flushSync(),
  };
}

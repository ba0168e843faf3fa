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
  /** Resolves when what is buffered is written. It may never, when nobody reads: whoever waits sets a bound. */
  flush(): Promise<void>;
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
  let isRead = true;
  target.on('error', () => {
    // Nobody reads the log any more; the node does not depend on it. Left open, the buffer would be flushed again and
    // again when the process wants to end.
    isRead = false;
    target.destroy();
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
    observer: ({ level, name, fields }) => {
      if (isRead) logger[level](fields, name);
    },
    // Not at once: on a broken pipe a synchronous flush tries for ever.
    flush: () =>
      isRead ? new Promise((resolve) => target.flush(() => resolve())) : Promise.resolve(),
  };
}

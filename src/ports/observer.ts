// Where a node reports what it does: structured events, not text. Adapters turn them into logs and metrics. A listener
// must not block and must not throw; the host guards against both.

/** One fact. `fields` are plain JSON values, except `error`: an `Error`, or whatever else was thrown. */
export interface ObservedEvent {
  readonly level: 'debug' | 'info' | 'warn' | 'error';
  /** What happened, in kebab-case: `leader-changed`, `peer-connected`, … */
  readonly name: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

export type Observer = (event: ObservedEvent) => void;

/** Listens to nothing. */
export const silentObserver: Observer = () => {};

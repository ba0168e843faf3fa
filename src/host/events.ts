// Who listens to a node. Listeners are called after the fact, one after the other; one that throws or rejects is reported
// and does not disturb the node or the other listeners.

import type { Observer } from '../ports/observer.ts';
import type { NodeEvents } from './api.ts';

type Listener<Name extends keyof NodeEvents> = (event: NodeEvents[Name]) => void;

export interface EventHub {
  readonly on: <Name extends keyof NodeEvents>(name: Name, listener: Listener<Name>) => void;
  readonly off: <Name extends keyof NodeEvents>(name: Name, listener: Listener<Name>) => void;
  /** Whether anybody listens: what nobody hears need not be built. */
  has(name: keyof NodeEvents): boolean;
  emit<Name extends keyof NodeEvents>(name: Name, event: NodeEvents[Name]): void;
}

export function eventHub(observe: Observer): EventHub {
  const listeners = new Map<keyof NodeEvents, Set<(event: never) => void>>();
  return {
    on(name, listener) {
      const known = listeners.get(name);
      if (known === undefined) listeners.set(name, new Set([listener]));
      else known.add(listener);
    },
    off(name, listener) {
      listeners.get(name)?.delete(listener);
    },
    has(name) {
      return (listeners.get(name)?.size ?? 0) > 0;
    },
    emit(name, event) {
      const report = (error: unknown): void => {
        observe({ level: 'error', name: 'listener-failed', fields: { event: name, error } });
      };
      for (const listener of listeners.get(name) ?? []) {
        try {
          // Nobody waits for a listener that is an async function, but its failure must not end the process.
          const outcome = (listener as (event: unknown) => unknown)(event);
          if (outcome instanceof Promise) outcome.catch(report);
        } catch (error) {
          report(error);
        }
      }
    },
  };
}

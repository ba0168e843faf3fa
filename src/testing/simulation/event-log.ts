// What happened in a simulated run, in order. The last events are always at hand for a report; a recorded run keeps all
// of them, as lines of NDJSON that are the same, byte for byte, whenever the same seed and options are run again.

import { createHash } from 'node:crypto';

/** One event. Fields are plain JSON values. */
export interface SimulationEvent {
  /** Virtual milliseconds since the start. */
  readonly atMs: number;
  readonly name: string;
  readonly nodeId: string | undefined;
  readonly partitionId: number | undefined;
  readonly fields: Readonly<Record<string, unknown>> | undefined;
}

export interface EventLog {
  /** Whether single messages are worth reporting: only in recorded runs. */
  readonly isRecording: boolean;
  note(
    name: string,
    where?: { readonly nodeId?: string; readonly partitionId?: number },
    fields?: Readonly<Record<string, unknown>>,
  ): void;
  /** The last events, oldest first; those of one partition and of no partition when one is given. */
  last(count: number, partitionId?: number): readonly SimulationEvent[];
  /** Hash over all lines of a recorded run: equal for equal runs. */
  digest(): string;
}

/** Events that are kept for reports. */
const keptMax = 4_096;

/** Opens a log. `write` gets every line of a recorded run, without its end of line. */
export function eventLog(options: {
  readonly nowMs: () => number;
  readonly isRecording: boolean;
  readonly write: ((line: string) => void) | undefined;
}): EventLog {
  const { nowMs, isRecording, write } = options;
  const hash = createHash('sha256');
  const kept: SimulationEvent[] = [];
  let next = 0;
  return {
    isRecording,
    note(name, where, fields) {
      const event: SimulationEvent = {
        atMs: nowMs(),
        name,
        nodeId: where?.nodeId,
        partitionId: where?.partitionId,
        fields,
      };
      kept[next] = event;
      next = (next + 1) % keptMax;
      if (!isRecording) return;
      const line = JSON.stringify(event);
      hash.update(line);
      hash.update('\n');
      write?.(line);
    },
    last(count, partitionId) {
      const ordered = [...kept.slice(next), ...kept.slice(0, next)];
      const concerned =
        partitionId === undefined
          ? ordered
          : ordered.filter((event) => (event.partitionId ?? partitionId) === partitionId);
      return concerned.slice(-count);
    },
    digest: () => hash.copy().digest('hex'),
  };
}

/** An event as a line for people. */
export function eventText({ atMs, name, nodeId, partitionId, fields }: SimulationEvent): string {
  const time = atMs.toFixed(1).padStart(9);
  const where = [nodeId ?? '·', partitionId ?? '·'].join(' ');
  const facts = Object.entries(fields ?? {})
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => `${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`);
  return [`${time} ms`, where.padEnd(4), name, ...facts].join('  ');
}

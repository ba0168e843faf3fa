// Operations on a register, written short: who, what, from when to when. Without an end the outcome is unknown.

import type { HistoryOperation } from '../../src/testing/linearizability/history.ts';
import type {
  CasRegisterInput,
  CasRegisterOutput,
  RegisterInput,
  RegisterOutput,
  RegisterValue,
} from '../../src/testing/linearizability/models.ts';

/** From when to when. */
type Span = readonly [calledAt: number, returnedAt?: number];

export function write(
  client: string,
  value: RegisterValue,
  [calledAt, returnedAt]: Span,
): HistoryOperation<RegisterInput, RegisterOutput> {
  const output = returnedAt === undefined ? undefined : {};
  return { client, input: { type: 'write', value }, output, calledAt, returnedAt };
}

export function read(
  client: string,
  value: RegisterValue | undefined,
  [calledAt, returnedAt]: Span,
): HistoryOperation<RegisterInput, RegisterOutput> {
  const output = returnedAt === undefined ? undefined : { value };
  return { client, input: { type: 'read' }, output, calledAt, returnedAt };
}

export function compareAndSet(
  client: string,
  change: {
    readonly expected: RegisterValue | undefined;
    readonly value: RegisterValue;
    readonly swapped: boolean;
  },
  [calledAt, returnedAt]: Span,
): HistoryOperation<CasRegisterInput, CasRegisterOutput> {
  const { expected, value, swapped } = change;
  const output = returnedAt === undefined ? undefined : { swapped };
  return {
    client,
    input: { type: 'compareAndSet', expected, value },
    output,
    calledAt,
    returnedAt,
  };
}

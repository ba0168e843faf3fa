// Discovery through a registry that all nodes can reach: each announces itself there for a time and renews that, and each
// reads who else is there. When to ask, what to believe, and what becomes of a registry that fails is decided here, once;
// an adapter (`redis.ts`, `etcd.ts`, `consul.ts`, `dns.ts`) only says how its registry is asked. No failure of a registry
// ends anything: what was known stays known, and it is asked again.

import { assert } from '../base/assert.ts';
import { type Random, seededRandom } from '../base/random.ts';
import type { DiscoveredNode, Discovery, DiscoveryContext } from '../ports/discovery.ts';
import type { Endpoint } from '../ports/transport.ts';
import { type AnswerOutcome, entriesMax, type KnownNodes, takeAnswer } from './known-nodes.ts';
import { checkOwnEndpoint } from './own-endpoint.ts';

/** How one registry is asked. Every call ends when its signal is aborted; what it rejects with is tried again. */
export interface Registry {
  /** What it is and where, for messages; without secrets. */
  readonly name: string;
  /** Milliseconds between an answer, or a change that was waited for, and the next question. */
  readonly pauseMs: number;
  /** Who can be found in the registry. Undefined where somebody else writes it. */
  readonly announcer?: Announcer;
  /** All entries that are there now, unchecked. Of two with one node id the earlier one counts. */
  list(signal: AbortSignal): Promise<readonly DiscoveredNode[]>;
  /** Resolves when there may be another answer than that of the last `list`. Undefined: it is asked every `pauseMs`. */
  awaitChange?(signal: AbortSignal): Promise<void>;
  /** Lets go of connections; what is still under way rejects. */
  close(): void;
}

/** Writes the entry of this node. */
export interface Announcer {
  /**
   * Writes the entry or renews it, whatever is there. An entry of another endpoint under the same id is left alone.
   *
   * @returns the endpoint that holds the id; that of this node when the entry is there now
   */
  announce(signal: AbortSignal): Promise<Endpoint>;
  /** Removes the entry if it is this node's. */
  withdraw(signal: AbortSignal): Promise<void>;
}

export interface RegistryRules {
  /** Milliseconds that an entry lives without being renewed, and that a missing one is still believed. */
  readonly ttlMs: number;
  /** Milliseconds after which a question counts as failed. */
  readonly timeoutMs: number;
  /**
   * Makes the registry; connects to nothing yet.
   *
   * @throws what waiting cannot mend
   */
  connect(context: DiscoveryContext): Promise<Registry>;
}

/** Renewals in the life of an entry: one or two may fail. */
const renewalsPerTtl = 3;
/** The first pause after a failure; doubled at every further one, up to the time between renewals. */
const backoffMsMin = 100;
/** How long a change is waited for before the registry is asked anyway: a watch may be dead without saying so. */
const changeWaitMs = 30_000;
/** An own entry that somebody removes again and again is put back no more often than this. */
const announceAgainMs = 1_000;

/**
 * Discovery through a registry. `open` resolves before anything is known: nodes are reported when they are.
 *
 * @throws INVALID_OPTION at `open`, when nobody could reach this node at its own endpoint
 */
export function registryDiscovery(rules: RegistryRules): Discovery {
  let opening: Promise<OpenRegistry | undefined> | undefined;
  let closing: Promise<void> | undefined;
  return {
    async open(changed, context) {
      assert(opening === undefined, 'a discovery is opened once');
      assert(closing === undefined, 'a closed discovery is not opened');
      const connecting = connect(rules, context);
      // A failure is the caller's to hear; there is nothing to close then.
      opening = connecting.then(
        (registry) => openRegistry(registry, { rules, context, changed }),
        () => undefined,
      );
      await connecting;
      const open = await opening;
      if (open === undefined || open.ending.signal.aborted) return;
      open.loops = [keepAnnounced(open), keepReading(open)];
    },
    close() {
      closing ??= (async () => {
        const open = await opening;
        if (open !== undefined) await closeRegistry(open);
      })();
      return closing;
    },
  };
}

async function connect(rules: RegistryRules, context: DiscoveryContext): Promise<Registry> {
  const registry = await rules.connect(context);
  if (registry.announcer !== undefined) checkOwnEndpoint(context);
  return registry;
}

type Operation = 'announce' | 'list' | 'watch';

interface OpenRegistry {
  readonly registry: Registry;
  readonly rules: RegistryRules;
  readonly context: DiscoveryContext;
  readonly changed: (nodes: readonly DiscoveredNode[]) => void;
  /** Of the jitter: another one on every node. */
  readonly random: Random;
  readonly known: KnownNodes;
  /** Aborted when the discovery closes: ends every wait. */
  readonly ending: AbortController;
  loops: readonly Promise<void>[];
  /** Failures in a row. */
  readonly failures: Record<Operation, number>;
  /** Whether the registry has ever answered: then there is something to report, be it nobody. */
  hasAnswer: boolean;
  /** Whether an entry may be there that has to be removed at the end. */
  mayBeAnnounced: boolean;
  /** When the entry was last known to be there; undefined: it is not, or another one's is. */
  announcedAtMs: number | undefined;
  /** Ends the pause before the next renewal. */
  wakeAnnouncer: () => void;
  /** What was last said about each of these, so that it is said once. */
  readonly said: Map<string, string>;
}

function openRegistry(
  registry: Registry,
  parts: Pick<OpenRegistry, 'rules' | 'context' | 'changed'>,
): OpenRegistry {
  const { nodeId, endpoint } = parts.context.self;
  return {
    registry,
    ...parts,
    random: seededRandom(seedOf(`${nodeId} ${endpoint}`)),
    known: new Map(),
    ending: new AbortController(),
    loops: [],
    failures: { announce: 0, list: 0, watch: 0 },
    hasAnswer: false,
    mayBeAnnounced: false,
    announcedAtMs: undefined,
    wakeAnnouncer: () => {},
    said: new Map(),
  };
}

/** Nodes that start together must not ask in step (HAZARDS 5): equal names have equal seeds, others do not. */
function seedOf(text: string): number {
  let seed = 0;
  for (const character of text) seed = (Math.imul(seed, 31) + (character.codePointAt(0) ?? 0)) | 0;
  return seed;
}

async function closeRegistry(open: OpenRegistry): Promise<void> {
  const { registry, rules } = open;
  open.ending.abort();
  await Promise.all(open.loops);
  const { announcer } = registry;
  if (announcer !== undefined && open.mayBeAnnounced) {
    try {
      await bounded(open, { timeoutMs: rules.timeoutMs }, (signal) => announcer.withdraw(signal));
    } catch (error) {
      // It expires by itself.
      observe(open, 'warn', 'registry-withdraw-failed', { error });
    }
  }
  registry.close();
}

async function keepAnnounced(open: OpenRegistry): Promise<void> {
  const { announcer } = open.registry;
  if (announcer === undefined) return;
  while (!open.ending.signal.aborted) {
    let pauseMs = renewalMs(open);
    try {
      open.mayBeAnnounced = true;
      noteHolder(open, await asked(open, (signal) => announcer.announce(signal)));
      noteSuccess(open, 'announce');
    } catch (error) {
      pauseMs = noteFailure(open, 'announce', error);
    }
    await pause(open, pauseMs, (wake) => {
      open.wakeAnnouncer = wake;
    });
  }
}

async function keepReading(open: OpenRegistry): Promise<void> {
  while (!open.ending.signal.aborted) {
    let pauseMs = open.registry.pauseMs;
    let operation: Operation = 'list';
    try {
      const askedAtMs = open.context.clock.monotonicMs();
      const answer = await asked(open, (signal) => open.registry.list(signal));
      if (open.ending.signal.aborted) return;
      const waitMs = noteAnswer(open, answer, askedAtMs);
      noteSuccess(open, operation);
      operation = 'watch';
      if (await changeAwaited(open, waitMs)) noteSuccess(open, operation);
      else pauseMs = Math.min(pauseMs, waitMs);
    } catch (error) {
      pauseMs = noteFailure(open, operation, error);
    }
    await pause(open, pauseMs);
  }
}

/** Waits for a change, `waitMs` at most. @returns whether the registry can say that there is one */
async function changeAwaited(open: OpenRegistry, waitMs: number): Promise<boolean> {
  const { registry } = open;
  if (registry.awaitChange === undefined) return false;
  const late = new Error(`nothing changed within ${waitMs} ms`);
  try {
    await bounded(open, { timeoutMs: waitMs, late, ending: open.ending.signal }, async (signal) =>
      registry.awaitChange?.(signal),
    );
  } catch (error) {
    if (error !== late) throw error;
  }
  return true;
}

/** @returns milliseconds that the next answer may take its time */
function noteAnswer(
  open: OpenRegistry,
  answer: readonly DiscoveredNode[],
  askedAtMs: number,
): number {
  if (answer.length > entriesMax) {
    throw new Error(
      `${open.registry.name} has more than ${entriesMax} entries for this cluster: none of them is believed; remove what does not belong there`,
    );
  }
  const { context, rules, known } = open;
  const nowMs = context.clock.monotonicMs();
  const outcome = takeAnswer(known, answer, { self: context.self, nowMs, holdMs: rules.ttlMs });
  if (outcome.isChanged || !open.hasAnswer) {
    open.hasAnswer = true;
    open.changed([...known.values()].map(({ node }) => node));
  }
  noteStrangeEntries(open, outcome);
  const dueMs = Math.min(
    nowMs + changeWaitMs,
    outcome.dueMs ?? Number.POSITIVE_INFINITY,
    outcome.hasSelf ? Number.POSITIVE_INFINITY : ownEntryMissed(open, askedAtMs),
  );
  return Math.max(0, dueMs - nowMs);
}

function noteStrangeEntries(open: OpenRegistry, { refused, doubles }: AnswerOutcome): void {
  const count = refused.length;
  const [reason] = refused.toSorted();
  const refusal = count === 0 ? '' : `${count} ${reason}`;
  sayOnce(open, 'registry-entries-refused', refusal, () => ({ count, reason }));
  const [[nodeId, [endpoint, claimedBy]] = ['', []]] = [...doubles].sort(([x], [y]) =>
    x < y ? -1 : 1,
  );
  const claim = doubles.size === 0 ? '' : `${doubles.size} ${nodeId} ${endpoint} ${claimedBy}`;
  sayOnce(open, 'node-id-claimed-twice', claim, () => ({
    count: doubles.size,
    nodeId,
    endpoint,
    claimedBy,
  }));
}

/**
 * Somebody, or a registry that lost its memory, has removed the own entry: it is put back without delay.
 *
 * @returns when to look again, because the answer may be older than the entry, or the entry was just put back
 */
function ownEntryMissed(open: OpenRegistry, askedAtMs: number): number {
  if (open.announcedAtMs === undefined) return Number.POSITIVE_INFINITY;
  const againMs = open.announcedAtMs + announceAgainMs;
  if (askedAtMs < againMs) return againMs;
  open.announcedAtMs = undefined;
  observe(open, 'warn', 'registry-entry-lost', {});
  open.wakeAnnouncer();
  return Number.POSITIVE_INFINITY;
}

function noteHolder(open: OpenRegistry, holder: Endpoint): void {
  const { self, clock } = open.context;
  const isOwn = holder === self.endpoint;
  if (isOwn) open.announcedAtMs = clock.monotonicMs();
  sayOnce(open, 'registry-id-taken', isOwn ? '' : holder, () => ({
    nodeId: self.nodeId,
    endpoint: self.endpoint,
    holder,
  }));
}

function noteSuccess(open: OpenRegistry, operation: Operation): void {
  const attempts = open.failures[operation];
  open.failures[operation] = 0;
  if (attempts > 0) observe(open, 'info', 'registry-recovered', { operation, attempts });
}

/** @returns how long to pause. The first failure in a row is reported, the others are like it. */
function noteFailure(open: OpenRegistry, operation: Operation, error: unknown): number {
  if (open.ending.signal.aborted) return 0;
  open.failures[operation] += 1;
  const failures = open.failures[operation];
  if (failures === 1) observe(open, 'warn', 'registry-failing', { operation, error });
  const pauseMs = Math.min(renewalMs(open), backoffMsMin * 2 ** (failures - 1));
  return pauseMs * (0.5 + open.random.unit() / 2);
}

function renewalMs({ rules }: OpenRegistry): number {
  return rules.ttlMs / renewalsPerTtl;
}

/** Asks the registry; an answer that is late is a failure. */
function asked<Result>(
  open: OpenRegistry,
  call: (signal: AbortSignal) => Promise<Result>,
): Promise<Result> {
  const { timeoutMs } = open.rules;
  return bounded(open, { timeoutMs, ending: open.ending.signal }, call);
}

/** Makes a call that ends in time, whatever the registry does; a call that was given up may still take effect. */
async function bounded<Result>(
  { context, registry }: OpenRegistry,
  limits: {
    readonly timeoutMs: number;
    /** What is thrown when the time is over. */
    readonly late?: Error;
    readonly ending?: AbortSignal;
  },
  call: (signal: AbortSignal) => Promise<Result>,
): Promise<Result> {
  const { timeoutMs, ending } = limits;
  const { late = new Error(`${registry.name} did not answer within ${timeoutMs} ms`) } = limits;
  const controller = new AbortController();
  const { promise: cut, reject } = Promise.withResolvers<never>();
  const stop = (reason: Error): void => {
    controller.abort(reason);
    reject(reason);
  };
  const end = (): void => stop(new Error('the discovery was closed'));
  const timer = context.clock.setTimer(timeoutMs, () => stop(late));
  ending?.addEventListener('abort', end);
  if (ending?.aborted === true) end();
  try {
    return await Promise.race([call(controller.signal), cut]);
  } finally {
    timer.cancel();
    ending?.removeEventListener('abort', end);
  }
}

/** Ends after `pauseMs`, at once when the discovery closes, or when what `wakeable` was given is called. */
async function pause(
  { context, ending }: OpenRegistry,
  pauseMs: number,
  wakeable?: (wake: () => void) => void,
): Promise<void> {
  if (ending.signal.aborted) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  const wake = (): void => resolve();
  const timer = context.clock.setTimer(pauseMs, wake);
  ending.signal.addEventListener('abort', wake);
  wakeable?.(wake);
  await promise;
  timer.cancel();
  ending.signal.removeEventListener('abort', wake);
}

/** Reports a state when it begins and when it is another one; `state` is empty while all is well. */
function sayOnce(
  open: OpenRegistry,
  name: string,
  state: string,
  fields: () => Readonly<Record<string, unknown>>,
): void {
  if ((open.said.get(name) ?? '') === state) return;
  open.said.set(name, state);
  if (state !== '') observe(open, 'warn', name, fields());
}

function observe(
  { context, registry }: OpenRegistry,
  level: 'info' | 'warn',
  name: string,
  fields: Readonly<Record<string, unknown>>,
): void {
  context.observer({ level, name, fields: { registry: registry.name, ...fields } });
}

// What `kommander wal inspect` and `kommander wal verify` print of a closed store. Neither writes anything into it.

import { isKommanderError, KommanderError } from '../base/errors.ts';
import { describeEntry, describeFacts, type NodeFacts } from '../index.ts';
import type { PartitionId } from '../ports/wal.ts';
import type { Entry, LogIndex } from '../raft/types.ts';
import { formatTimestamp } from '../time/timestamp.ts';
import { type StoreDamage, wholeDamage } from '../wal/store-reader.ts';
import { type StoreSurvey, type SurveyedPartition, surveyStore } from '../wal/store-survey.ts';
import { alignedLines } from './table.ts';
import type { ClosedStore } from './wal-engines.ts';
import { notingBases, type StoredBases, snapshotDamages } from './wal-snapshots.ts';

/** Bytes of an entry's data that are shown. */
const shownBytesMax = 64;

export type Print = (text: string) => void;

export interface WalReport {
  readonly survey: StoreSurvey;
  /** Undefined: the facts cannot be read; `survey` has the damage. */
  readonly facts: NodeFacts | undefined;
}

/**
 * Surveys the store; facts that mean nothing are a damage as well, and so are snapshots that are not whole and votes that are
 * gone.
 */
export async function reportOf(
  store: ClosedStore,
  options: { readonly digest?: boolean; readonly progress?: (entryCount: number) => void } = {},
): Promise<WalReport> {
  const bases: StoredBases = new Map();
  const survey = await surveyStore(notingBases(store.finds(), bases), options);
  const damages = await snapshotDamages(store.path, bases);
  try {
    const facts = describeFacts(survey.facts);
    damages.push(...missingVotes(survey, facts));
    return { survey: withDamages(survey, damages), facts };
  } catch (error) {
    if (!isKommanderError(error)) throw error;
    damages.push(wholeDamage(error.message, undefined));
    return { survey: withDamages(survey, damages), facts: undefined };
  }
}

/**
 * Partitions of the node without a hard state, or with one that is older than their logs. Where a whole file is gone no
 * checksum is wrong; but a node writes every partition with its genesis record, and no entry before its term.
 */
function missingVotes(
  { partitions, damages }: StoreSurvey,
  { clusterId, partitionCount }: NodeFacts,
): StoreDamage[] {
  if (clusterId === undefined) return [];
  const anything = damages.filter(({ lost }) => lost === 'anything');
  const found = new Map(partitions.map((each) => [each.partitionId, each]));
  const missing: StoreDamage[] = [];
  for (let partitionId = 0; partitionId <= partitionCount; partitionId++) {
    // What is damaged in words already may have been just that.
    const isTold = anything.some((each) => (each.partitionId ?? partitionId) === partitionId);
    const { hardState, base, termRuns } = found.get(partitionId) ?? {};
    const logTerm = Math.max(base?.term ?? 0, termRuns?.at(-1)?.term ?? 0);
    if (isTold || (hardState !== undefined && hardState.term >= logTerm)) continue;
    const what = `there is no hard state of term ${logTerm} or later`;
    missing.push({ ...wholeDamage(what, undefined), partitionId });
  }
  return missing;
}

function withDamages(survey: StoreSurvey, more: readonly StoreDamage[]): StoreSurvey {
  const damages = [...survey.damages, ...more];
  return { ...survey, damages, damageCount: survey.damageCount + more.length };
}

/** The whole store: facts, a row per partition, and how many damages there are. */
export function inspectText(store: ClosedStore, report: WalReport): string {
  const { survey } = report;
  return [
    ...headLines(store, report),
    ...alignedLines([columns, ...survey.partitions.map(partitionRow)]),
    ...(survey.damageCount === 0
      ? []
      : [`${damagesText(survey)}: kommander wal verify ${store.path} lists them`]),
    '',
  ].join('\n');
}

/** What was checked, and every damage. */
export function verifyText(store: ClosedStore, report: WalReport): string {
  const { survey } = report;
  const count = survey.partitions.length;
  const entries = total(survey, ({ entryCount }) => entryCount);
  const bytes = total(survey, ({ byteLength }) => byteLength);
  const left = survey.damageCount - survey.damages.length;
  return [
    ...headLines(store, report),
    `read: ${count} partitions, ${entries} entries, ${bytes} bytes`,
    ...survey.damages.map(damageLine),
    ...(left > 0 ? [`… and ${left} more`] : []),
    survey.damageCount === 0 ? 'the store is whole' : damagesText(survey),
    '',
  ].join('\n');
}

/** Both commands, with `--json`. */
export function reportJson(store: ClosedStore, { survey, facts }: WalReport): string {
  return jsonLine({
    path: store.path,
    ...store.engine.format,
    node: facts,
    partitions: survey.partitions.map(({ digest: _digest, ...partition }) => partition),
    damages: survey.damages,
    damageCount: survey.damageCount,
  });
}

/**
 * Prints entries `range.from …` of one partition, at most `range.count`, and the damages between them.
 *
 * @throws UNKNOWN_PARTITION nothing of it is stored
 */
export async function printEntries(
  store: ClosedStore,
  range: { readonly partitionId: PartitionId; readonly from: LogIndex; readonly count: number },
  options: { readonly isJson: boolean; readonly print: Print },
): Promise<void> {
  const { partitionId, from, count } = range;
  let left = count;
  let compactedIndex = 0;
  let isKnown = false;
  for await (const find of store.finds(partitionId)) {
    if (find.kind === 'compaction') compactedIndex = find.mark.index;
    if (find.kind !== 'fact' && find.kind !== 'damage') isKnown = true;
    const isPlaced = find.kind === 'damage' && find.damage.partitionId === partitionId;
    if (isPlaced) isKnown = true;
    if (isPlaced && (find.damage.lastIndex ?? Number.MAX_SAFE_INTEGER) >= from) {
      options.print(
        options.isJson ? jsonLine({ damage: find.damage }) : `${damageLine(find.damage)}\n`,
      );
    }
    if (find.kind !== 'run') continue;
    for (const entry of find.entries) {
      if (entry.index < from || entry.index <= compactedIndex) continue;
      if (left === 0) return;
      left -= 1;
      options.print(options.isJson ? entryJson(entry) : entryLine(entry));
    }
  }
  if (isKnown) return;
  throw new KommanderError(`${store.path} has nothing of partition ${partitionId}`, {
    code: 'UNKNOWN_PARTITION',
    details: { partitionId },
  });
}

const columns = [
  ...['partition', 'first', 'last', 'entries', 'bytes', 'terms', 'term', 'voted for', 'commit'],
  ...['base', 'state', 'compacted'],
];

function partitionRow(partition: SurveyedPartition): string[] {
  const { hardState, base, termRuns } = partition;
  const [firstTerm, lastTerm] = [termRuns[0]?.term, termRuns.at(-1)?.term];
  const terms = firstTerm === lastTerm ? firstTerm : `${firstTerm}-${lastTerm}`;
  return [
    ...[partition.partitionId, partition.firstIndex, partition.lastIndex, partition.entryCount],
    ...[partition.byteLength, terms, hardState?.term, hardState?.votedFor, hardState?.commitIndex],
    ...[base?.index, partition.dataBytes, partition.compactedIndex],
  ].map((cell) => String(cell ?? '-'));
}

function headLines({ path, engine }: ClosedStore, { facts, survey }: WalReport): string[] {
  const { engine: name, version } = engine.format;
  const head = `${path}: engine ${name}, version ${version}`;
  const unknown = 'whose store it is cannot be read';
  if (facts === undefined) return [head, unknown];
  const { nodeId, clusterId, incarnation, members, partitionCount, isFormed } = facts;
  // Where something is damaged, a fact that is not there may be what was.
  if (nodeId === undefined || clusterId === undefined)
    return [head, survey.damageCount === 0 ? 'no node has used it yet' : unknown];
  const list = members
    .map(({ nodeId: id, endpoint }) => (endpoint === undefined ? id : `${id}=${endpoint}`))
    .join(', ');
  return [
    head,
    `node ${nodeId}, cluster ${clusterId}, start ${incarnation}`,
    `${isFormed ? 'formed' : 'being formed'} by ${list}; ${partitionCount} partitions`,
  ];
}

function damagesText({ damageCount }: StoreSurvey): string {
  return damageCount === 1 ? '1 place is damaged' : `${damageCount} places are damaged`;
}

function damageLine({ partitionId, index, lastIndex, file, what }: StoreDamage): string {
  const range = lastIndex === undefined ? `${index} …` : `${index} … ${lastIndex}`;
  const place = [
    ...(partitionId === undefined ? [] : [`partition ${partitionId}`]),
    ...(index === undefined ? [] : [index === lastIndex ? `index ${index}` : `index ${range}`]),
    ...(file === undefined ? [] : [`file ${file}`]),
  ];
  return `damaged: ${place.length === 0 ? 'the store' : place.join(', ')}: ${what}`;
}

function total(survey: StoreSurvey, of: (partition: SurveyedPartition) => number): number {
  return survey.partitions.reduce((sum, partition) => sum + of(partition), 0);
}

function entryLine(entry: Entry): string {
  const { kind, type, timestamp, data } = describeEntry(entry);
  const time = timestamp === undefined ? '-' : formatTimestamp(timestamp);
  const { text, hex, bytes, isCut } = shown(data);
  const rest = isCut ? `… (${bytes} bytes)` : '';
  const body = text === undefined ? `0x${hex}` : JSON.stringify(text);
  return `${entry.index}  term ${entry.term}  ${kind}  ${type ?? '-'}  ${time}  ${body}${rest}\n`;
}

function entryJson(entry: Entry): string {
  const { kind, type, timestamp, data } = describeEntry(entry);
  const { text, hex, bytes, isCut } = shown(data);
  const { index, term } = entry;
  return jsonLine({ index, term, kind, type, timestamp, text, hex, bytes, isCut });
}

/** The beginning of the data: as text when it is some, else in hexadecimal digits. */
function shown(data: Uint8Array | string): {
  readonly text: string | undefined;
  readonly hex: string | undefined;
  readonly bytes: number;
  readonly isCut: boolean;
} {
  if (typeof data === 'string')
    return { text: data, hex: undefined, bytes: data.length, isCut: false };
  const part = data.subarray(0, shownBytesMax);
  const isCut = part.byteLength < data.byteLength;
  // A character may be cut in two: then what is whole of the text is shown.
  const text = new TextDecoder('utf-8', { ignoreBOM: true }).decode(part, { stream: isCut });
  const isText = !/[\p{Cc}\uFFFD]/u.test(text.replaceAll(/[\t\n\r]/g, ''));
  const bytes = data.byteLength;
  if (isText) return { text, hex: undefined, bytes, isCut };
  return { text: undefined, hex: Buffer.from(part).toString('hex'), bytes, isCut };
}

function jsonLine(value: unknown): string {
  return `${JSON.stringify(value, (_, each: unknown) => (each === undefined ? null : each))}\n`;
}

// What a violation looks like to people: the rule, what was found, where the replicas stand, the last events of the
// partition, and the command that repeats it.

import { eventText } from './event-log.ts';
import { partitionSummary } from './outcome-checks.ts';
import type { ViolationError } from './violation.ts';
import type { World } from './world.ts';

const eventsMax = 60;

export function violationReport(world: World, violation: ViolationError): string {
  const { settings, log } = world;
  const { partitionId } = violation;
  const { seed, nodeIds, partitions, clients, durationMs, nodeSettings } = settings;
  return [
    `violation at seed ${seed}: ${violation.rule}`,
    `  ${violation.message.slice(violation.rule.length + 2)}`,
    `seed ${seed}, ${nodeIds.length} nodes, ${partitions} partitions, ${clients} clients, ${durationMs} ms`,
    `node options ${JSON.stringify(nodeSettings)}`,
    ...(partitionId === undefined ? [] : [partitionSummary(world, partitionId)]),
    `the last events${partitionId === undefined ? '' : ` of partition ${partitionId}`}:`,
    ...log.last(eventsMax, partitionId).map(eventText),
  ].join('\n');
}

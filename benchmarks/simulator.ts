// How many seeds does the simulator run in a minute of one core? A seed here is a minute of a cluster of 5 nodes and 4
// partitions under the profile `swarm`, 8 clients. The floor is 20 seeds; expected on one core of a quiet 2-core
// machine: 50 to 70, some 15 µs a step. Arguments: [--seeds N] (default 10).

import process from 'node:process';
import { parseArgs } from 'node:util';
import { keyValueProof } from '../src/testing/simulation/key-value-proof.ts';
import { keyValueMachine, keyValueWorkload } from '../src/testing/simulation/key-value-workload.ts';
import { simulate } from '../src/testing/simulation/simulate.ts';

const { values } = parseArgs({ options: { seeds: { type: 'string', default: '10' } } });
const seedCount = Number(values.seeds);
const nodes = 5;
const partitions = 4;

let stepCount = 0;
const startMs = performance.now();
const startCpu = process.cpuUsage();
for (let seed = 1; seed <= seedCount; seed++) {
  const result = await simulate({
    ...keyValueProof(seed, 'swarm'),
    nodes,
    partitions,
    clients: 8,
    stateMachine: keyValueMachine,
    workload: keyValueWorkload({ partitions, keys: 3, readPercent: 35, largePercent: 10 }),
    durationMs: 60_000,
  });
  if (result.report !== undefined) throw new Error(result.report);
  stepCount += result.stepCount;
}
const wallMinutes = (performance.now() - startMs) / 60_000;
const { user, system } = process.cpuUsage(startCpu);
const cpuMinutes = (user + system) / 60_000_000;
process.stdout.write(
  [
    `${seedCount} seeds of 60 virtual seconds, ${nodes} nodes, ${partitions} partitions`,
    `${(seedCount / wallMinutes).toFixed(1)} seeds a minute, ${(seedCount / cpuMinutes).toFixed(1)} a minute of CPU`,
    `${stepCount} steps, ${((cpuMinutes * 60_000_000) / stepCount).toFixed(1)} µs of CPU a step`,
    '',
  ].join('\n'),
);

// What `kommander/testing` offers to users: contract suites for adapters and state machines of their own, the simulator
// for whole services, and a clock that is moved by hand. The suites take any test runner that can name and run a test.

export { clockContract } from './clock-contract.ts';
export type { ContractRunner } from './contract-runner.ts';
export { discoveryContract } from './discovery-contract.ts';
export type { CoverageState } from './simulation/coverage.ts';
export type {
  SimulatedOperation,
  SimulatedWorkload,
  SimulationOptions,
} from './simulation/options.ts';
export type { FaultKind, FaultProfile, ProfileName } from './simulation/profiles.ts';
export { type SmallerRun, shrink } from './simulation/shrink.ts';
export { type SimulationResult, simulate } from './simulation/simulate.ts';
export { ViolationError } from './simulation/violation.ts';
export { stateMachineContract } from './state-machine-contract.ts';
export { transportContract } from './transport-contract.ts';
export { type VirtualClock, type VirtualClockOptions, virtualClock } from './virtual-clock.ts';
export { walContract } from './wal-contract.ts';

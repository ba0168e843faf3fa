// What `kommander/testing` offers to users: contract suites for adapters and state machines of their own, the simulator
// for whole services, a checker of linearizability, and a clock that is moved by hand. The suites take any test runner
// that can name and run a test.

export { clockContract } from './clock-contract.ts';
export type { ContractRunner } from './contract-runner.ts';
export { discoveryContract } from './discovery-contract.ts';
export {
  checkLinearizability,
  type IllegalHistory,
  type LinearizabilityOptions,
  type LinearizabilityResult,
  type UndecidedHistory,
} from './linearizability/check.ts';
export type {
  HistoryOperation,
  SequentialModel,
  StateMarks,
} from './linearizability/history.ts';
export { historyHtml } from './linearizability/history-html.ts';
export { type HistoryTextOptions, historyText } from './linearizability/history-text.ts';
export {
  type Acknowledged,
  type AppendedList,
  type AppendListInput,
  type AppendListOutput,
  appendListModel,
  type CasRegisterInput,
  type CasRegisterOutput,
  casRegisterModel,
  type FoundValue,
  type KeyValueInput,
  type KeyValueOutput,
  keyValueModel,
  type RegisterInput,
  type RegisterOutput,
  type RegisterValue,
  registerModel,
  type SwapOutcome,
} from './linearizability/models.ts';
export type { PictureOptions } from './linearizability/picture.ts';
export type { CoverageState } from './simulation/coverage.ts';
export type {
  MachineKind,
  SimulatedNodeOptions,
  SimulatedOperation,
  SimulatedWorkload,
  SimulationOptions,
} from './simulation/options.ts';
export type { FaultKind, FaultProfile, ProfileName } from './simulation/profiles.ts';
export { type SmallerRun, shrink } from './simulation/shrink.ts';
export { type SimulationResult, simulate } from './simulation/simulate.ts';
export { ViolationError } from './simulation/violation.ts';
export { bytesOfSnapshot, snapshotDataOf } from './snapshot-bytes.ts';
export { stateMachineContract } from './state-machine-contract.ts';
export { transportContract } from './transport-contract.ts';
export { type VirtualClock, type VirtualClockOptions, virtualClock } from './virtual-clock.ts';
export { walContract } from './wal-contract.ts';

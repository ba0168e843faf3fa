// What `kommander/testing` offers to users: contract suites for adapters and state machines of their own, a clock that
// is moved by hand, and a checker of linearizability. The suites take any test runner that can name and run a test.

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
export { stateMachineContract } from './state-machine-contract.ts';
export { transportContract } from './transport-contract.ts';
export { type VirtualClock, type VirtualClockOptions, virtualClock } from './virtual-clock.ts';
export { walContract } from './wal-contract.ts';

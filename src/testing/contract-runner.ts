// What a contract suite needs of a test runner: a way to name and run a test. `node:test` fits, and so do Vitest, Jest
// and Mocha: `walContract({ test }, factory)`.

export interface ContractRunner {
  test(name: string, body: () => Promise<void>): unknown;
}

// Stub.
export function historyText(..._a: unknown[]): string {
  return '';
}

// A client of the key-value service in a few functions: it knows several nodes, moves on when one does not answer, and
// retries only what may happen twice. Copy it into your own program; it needs nothing but `fetch`.

/** What a key holds; `index` is its version for conditions. */
export interface Found {
  readonly value: string;
  readonly index: number;
}

export interface Client {
  /** A linearizable read: it sees every write that was acknowledged before. */
  get(key: string): Promise<Found | undefined>;
  /**
   * Creates a key. Safe to repeat: a repetition finds the key there and changes nothing.
   *
   * @returns whether this call, or an earlier try of it with the same value, created the key
   */
  create(key: string, value: string): Promise<boolean>;
  /**
   * Replaces a value if nobody wrote the key since `index`.
   *
   * @returns false when somebody did
   * @throws OutcomeUnknown the write may have taken effect or not: only reading the key can tell
   */
  replace(key: string, value: string, index: number): Promise<boolean>;
}

/** A write whose fate is open. */
export class OutcomeUnknown extends Error {
  override readonly name = 'OutcomeUnknown';
}

interface ErrorBody {
  readonly code: string;
  readonly message: string;
  readonly retryable: boolean;
  readonly mayHaveCommitted: boolean;
}

const triesMax = 50;
const pauseMs = 200;
const requestMsMax = 6_000;

/** @param nodes base URLs of the cluster's nodes */
export function keyValueClient(nodes: readonly string[]): Client {
  let nodeAt = 0;

  /**
   * Sends a request until some node gives a final answer.
   *
   * @param isRepeatable whether the request may be sent again when its first sending may have taken effect
   */
  async function send(path: string, init: RequestInit, isRepeatable: boolean): Promise<Response> {
    for (let attempt = 0; attempt < triesMax; attempt++) {
      const url = nodes[nodeAt % nodes.length] + path;
      let problem: { readonly message: string; readonly mayHaveCommitted: boolean };
      try {
        const response = await fetch(url, { ...init, signal: AbortSignal.timeout(requestMsMax) });
        if (response.ok || response.status === 404 || response.status === 412) return response;
        const error = (await response.json()) as ErrorBody;
        if (!error.retryable && !error.mayHaveCommitted) throw new TypeError(error.message);
        problem = error;
      } catch (error) {
        if (error instanceof TypeError && error.cause === undefined) throw error;
        problem = { message: String(error), mayHaveCommitted: true };
      }
      if (problem.mayHaveCommitted && !isRepeatable) throw new OutcomeUnknown(problem.message);
      nodeAt += 1;
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
    throw new OutcomeUnknown(`no final answer after ${triesMax} tries`);
  }

  async function get(key: string): Promise<Found | undefined> {
    const response = await send(pathOf(key), {}, true);
    const value = await response.text();
    if (response.status === 404) return undefined;
    return { value, index: Number(response.headers.get('kommander-index')) };
  }

  return {
    get,
    async create(key, value) {
      const init = { method: 'PUT', body: value };
      const response = await send(`${pathOf(key)}?if-index=0`, init, true);
      await response.arrayBuffer();
      if (response.status === 200) return true;
      return (await get(key))?.value === value;
    },
    async replace(key, value, index) {
      const init = { method: 'PUT', body: value };
      const response = await send(`${pathOf(key)}?if-index=${index}`, init, false);
      await response.arrayBuffer();
      return response.status === 200;
    },
  };
}

function pathOf(key: string): string {
  return `/v1/kv/${encodeURIComponent(key)}`;
}

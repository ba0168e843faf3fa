// A stand-in for a Consul agent, because Debian has none to test with: the calls that the adapter makes, written from
// Consul's published HTTP API (agent service, agent check, health, blocking queries). It refuses whatever that API does
// not know, so that a wrong call is noticed. Whether it is like Consul in everything nobody has tried.

import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';

interface Instance {
  readonly id: string;
  readonly name: string;
  readonly address: string;
  readonly port: number;
  readonly meta: Readonly<Record<string, string>>;
  /** Undefined: no check, always passing. */
  readonly ttlMs: number | undefined;
  /** When its check was passed last. */
  passedAtMs: number;
  wasPassing: boolean;
}

export interface ConsulServer {
  readonly instances: Map<string, Instance>;
  /** Registers an instance without a check, as others do. */
  register(name: string, id: string, meta: Readonly<Record<string, string>>): void;
  deregister(id: string): void;
  remainingMs(id: string): number;
  /** Calls that the API does not know, and why. */
  readonly refused: string[];
  /** Blocking queries that have waited. */
  blockedCount: number;
  listen(port: number): Promise<void>;
  close(): Promise<void>;
}

/** @param token what calls must carry; undefined: nothing */
export function consulServer(token?: string): ConsulServer {
  const instances = new Map<string, Instance>();
  const waiting = new Set<() => void>();
  let index = 10;
  let server: Server | undefined;
  let watch: NodeJS.Timeout | undefined;

  const changed = (): void => {
    index += 1;
    for (const wake of waiting) wake();
  };
  const isPassing = ({ ttlMs, passedAtMs }: Instance): boolean =>
    ttlMs === undefined || performance.now() - passedAtMs < ttlMs;

  function noteExpired(): void {
    for (const instance of instances.values()) {
      if (instance.wasPassing === isPassing(instance)) continue;
      instance.wasPassing = !instance.wasPassing;
      changed();
    }
  }

  function register(body: Record<string, unknown>): void {
    const known = ['ID', 'Name', 'Address', 'Port', 'Meta', 'Check'];
    const strange = Object.keys(body).filter((field) => !known.includes(field));
    if (strange.length > 0) throw new Error(`unknown fields ${strange.join()}`);
    const { ID: id, Name: name, Address: address, Port: port, Meta: meta } = body;
    const check = body.Check as Record<string, unknown>;
    if (typeof id !== 'string' || typeof name !== 'string') throw new Error('no ID or Name');
    if (typeof address !== 'string' || typeof port !== 'number')
      throw new Error('no Address, Port');
    const ttl = /^(\d+)s$/.exec(String(check.TTL));
    if (ttl === null || check.Status !== 'passing') throw new Error('no TTL check');
    if (check.DeregisterCriticalServiceAfter !== '1m') throw new Error('less than a minute');
    for (const [key, value] of Object.entries(meta as Record<string, unknown>)) {
      if (!/^[\w-]{1,128}$/.test(key)) throw new Error(`meta key ${key}`);
      if (typeof value !== 'string' || value.length > 512) throw new Error(`meta value of ${key}`);
    }
    instances.set(id, {
      id,
      name,
      address,
      port,
      meta: meta as Record<string, string>,
      ttlMs: 1_000 * Number(ttl[1]),
      passedAtMs: performance.now(),
      wasPassing: true,
    });
    changed();
  }

  function serviceOf({ id, name, address, port, meta }: Instance) {
    return { ID: id, Service: name, Tags: [], Address: address, Port: port, Meta: meta };
  }

  async function healthOf(name: string, query: URLSearchParams): Promise<unknown> {
    if (query.get('passing') !== 'true') throw new Error('passing is not asked for');
    const asked = query.get('index');
    if (asked !== null && Number(asked) === index) {
      if (!/^\d+s$/.test(query.get('wait') ?? '')) throw new Error('no wait');
      server_.blockedCount += 1;
      await new Promise<void>((resolve) => {
        waiting.add(resolve);
      }).finally(() => waiting.clear());
    }
    return [...instances.values()]
      .filter((instance) => instance.name === name && isPassing(instance))
      .map((instance) => ({ Node: { Node: 'n' }, Service: serviceOf(instance), Checks: [] }));
  }

  async function answer(request: IncomingMessage): Promise<[status: number, body: unknown]> {
    const { pathname, searchParams: query } = new URL(request.url ?? '', 'http://consul');
    const call = `${request.method} ${pathname.replace(/[^/]*%3A[^/]*$/, ':id')}`;
    const id = decodeURIComponent(pathname.split('/').at(-1) ?? '');
    const instance = instances.get(id.replace(/^service:/, ''));
    switch (call) {
      case 'PUT /v1/agent/service/register': {
        if (query.get('replace-existing-checks') !== 'true') throw new Error('checks pile up');
        let text = '';
        for await (const piece of request.setEncoding('utf8')) text += piece;
        register(JSON.parse(text) as Record<string, unknown>);
        return [200, ''];
      }
      case 'PUT /v1/agent/check/pass/:id':
        if (instance === undefined || !id.startsWith('service:')) return [404, 'Unknown check ID'];
        instance.passedAtMs = performance.now();
        noteExpired();
        return [200, ''];
      case 'PUT /v1/agent/service/deregister/:id':
        if (instance === undefined) return [404, 'Unknown service ID'];
        instances.delete(id);
        changed();
        return [200, ''];
      case 'GET /v1/agent/health/service/id/:id': {
        if (instance === undefined) return [404, { AggregatedStatus: 'critical', Service: null }];
        const status = isPassing(instance) ? 'passing' : 'critical';
        const body = { AggregatedStatus: status, Service: serviceOf(instance), Checks: [] };
        return [status === 'passing' ? 200 : 503, body];
      }
      default:
        if (!/^GET \/v1\/health\/service\/[\w.-]+$/.test(call)) throw new Error('unknown call');
        return [200, await healthOf(id, query)];
    }
  }

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (token !== undefined && request.headers['x-consul-token'] !== token) {
      response.writeHead(403).end('Permission denied');
      return;
    }
    try {
      const [status, body] = await answer(request);
      const text = typeof body === 'string' ? body : JSON.stringify(body);
      response.writeHead(status, { 'x-consul-index': String(index) }).end(text);
    } catch (error) {
      server_.refused.push(`${request.method} ${request.url}: ${String(error)}`);
      response.writeHead(400).end(String(error));
    }
  }

  const server_: ConsulServer = {
    instances,
    refused: [],
    blockedCount: 0,
    register(name, id, meta) {
      const passedAtMs = performance.now();
      const place = { address: '', port: 0 };
      instances.set(id, {
        id,
        name,
        ...place,
        meta,
        ttlMs: undefined,
        passedAtMs,
        wasPassing: true,
      });
      changed();
    },
    deregister(id) {
      instances.delete(id);
      changed();
    },
    remainingMs(id) {
      const instance = instances.get(id);
      return (instance?.ttlMs ?? 0) + (instance?.passedAtMs ?? 0) - performance.now();
    },
    async listen(port) {
      instances.clear();
      server = createServer((request, response) => void handle(request, response));
      server.listen(port, '127.0.0.1');
      await once(server, 'listening');
      watch = setInterval(noteExpired, 20);
    },
    async close() {
      clearInterval(watch);
      server?.closeAllConnections();
      if (server?.listening === true) await new Promise((resolve) => server?.close(resolve));
      for (const wake of waiting) wake();
    },
  };
  return server_;
}

// etcd as a registry, over the JSON gateway of its version 3 API: one key per node with the endpoint as its text, bound to
// a lease that the node keeps alive, and a watch that says when to look again.

import type { DiscoveredNode, Discovery, DiscoveryContext } from '../ports/discovery.ts';
import type { Endpoint } from '../ports/transport.ts';
import { fieldOf, type HttpCaller, httpCaller, jsonOf, listOf, textOf } from './http-caller.ts';
import { entriesMax } from './known-nodes.ts';
import { type Registry, registryDiscovery } from './registry.ts';
import {
  invalidOption,
  type RegistryOptions,
  type RegistrySettings,
  registrySettings,
  registryUrl,
} from './registry-options.ts';

export interface EtcdDiscoveryOptions extends RegistryOptions {
  /**
   * `http://[user:password@]host:port`, or `https://`; a list names members of one etcd cluster, of which the next is
   * asked when one fails.
   */
  readonly url: string | readonly string[];
}

/**
 * Finds nodes through etcd (3.4 or newer).
 *
 * @throws INVALID_OPTION
 */
export function etcdDiscovery(options: EtcdDiscoveryOptions): Discovery {
  const settings = registrySettings(options, ['url']);
  const urls = [options.url].flat().map((url) => registryUrl(url, ['http', 'https']));
  if (urls.length === 0) throw invalidOption('url', 'is empty: name at least one member');
  const user = userOf(urls);
  return registryDiscovery({
    ...settings,
    async connect(context) {
      return etcdRegistry({ urls, user, settings, context });
    },
  });
}

/** Changes that come in one bunch are looked at once. */
const pauseMs = 200;

interface EtcdUser {
  readonly name: string;
  readonly password: string;
}

/** @throws INVALID_OPTION */
function userOf(urls: readonly URL[]): EtcdUser | undefined {
  const url = urls.find(({ username }) => username !== '');
  if (url === undefined) return undefined;
  try {
    const [name, password] = [url.username, url.password].map(decodeURIComponent);
    return { name: name ?? '', password: password ?? '' };
  } catch {
    throw invalidOption('url', 'is not valid: user or password are not percent-encoded');
  }
}

function etcdRegistry(parts: {
  readonly urls: readonly URL[];
  readonly user: EtcdUser | undefined;
  readonly settings: RegistrySettings;
  readonly context: DiscoveryContext;
}): Registry {
  const { urls, user, settings, context } = parts;
  const { nodeId, endpoint } = context.self;
  const http = httpCaller(urls);
  const name = `etcd at ${http.hosts}`;
  const ask = authenticated(http, user);
  const prefix = `kommander/${settings.cluster}/`;
  const key = base64(`${prefix}${nodeId}`);
  // The key behind all that begin with the prefix: "0" comes after "/".
  const range = { key: base64(prefix), range_end: base64(`kommander/${settings.cluster}0`) };
  let leaseId: string | undefined;
  /** Of the last list: what is watched for comes after it. */
  let revision = 0;

  /** Keeps the lease alive, or takes another one when it is over. */
  async function lease(signal: AbortSignal): Promise<string> {
    if (leaseId !== undefined) {
      const kept = await ask({
        path: '/v3/lease/keepalive',
        body: { ID: leaseId },
        signal,
        lines: 1,
      });
      if (numberOf(fieldOf(kept, 'result', 'TTL')) > 0) return leaseId;
      leaseId = undefined;
    }
    const body = { TTL: String(Math.ceil(settings.ttlMs / 1_000)) };
    const granted = textOf(fieldOf(await ask({ path: '/v3/lease/grant', body, signal }), 'ID'));
    if (granted === '') throw new Error(`${name} granted no lease`);
    leaseId = granted;
    return granted;
  }

  async function announce(signal: AbortSignal): Promise<Endpoint> {
    const own = await lease(signal);
    const [entry] = listOf(
      fieldOf(await ask({ path: '/v3/kv/range', body: { key }, signal }), 'kvs'),
    );
    const holder = textFrom(fieldOf(entry, 'value'));
    if (entry !== undefined && holder !== endpoint) return holder;
    if (fieldOf(entry, 'lease') === own) return endpoint;
    // Only over what was seen: somebody else may have been quicker. A key that is not there has revision 0.
    const written = await ask({
      path: '/v3/kv/txn',
      body: {
        compare: [
          {
            key,
            target: 'MOD',
            result: 'EQUAL',
            mod_revision: textOf(fieldOf(entry, 'mod_revision')) || '0',
          },
        ],
        success: [{ request_put: { key, value: base64(endpoint), lease: own } }],
      },
      signal,
    });
    if (fieldOf(written, 'succeeded') === true) return endpoint;
    throw new Error(`${name}: another one wrote the entry of ${nodeId} at the same time`);
  }

  return {
    name,
    pauseMs,
    announcer: {
      announce,
      async withdraw(signal) {
        if (leaseId === undefined) return;
        // What the lease holds goes with it, and nothing else.
        await ask({ path: '/v3/lease/revoke', body: { ID: leaseId }, signal });
      },
    },
    async list(signal) {
      const body = { ...range, limit: String(entriesMax + 1) };
      const answer = await ask({ path: '/v3/kv/range', body, signal });
      revision = numberOf(fieldOf(answer, 'header', 'revision'));
      return listOf(fieldOf(answer, 'kvs')).map(
        (entry): DiscoveredNode => ({
          nodeId: textFrom(fieldOf(entry, 'key')).slice(prefix.length),
          endpoint: textFrom(fieldOf(entry, 'value')),
        }),
      );
    },
    async awaitChange(signal) {
      // The first line says that the watch is there, the second one that something has changed, or that it is over.
      const create = { ...range, start_revision: String(revision + 1) };
      await ask({ path: '/v3/watch', body: { create_request: create }, signal, lines: 2 });
    },
    close: () => http.close(),
  };
}

interface EtcdCall {
  readonly path: string;
  readonly body: unknown;
  readonly signal: AbortSignal;
  /** Of an answer that goes on: how many lines are waited for; the last one counts. */
  readonly lines?: number;
}

/** Calls with a token when the URL names a user. One that is not taken any more is drawn again next time. */
function authenticated(
  http: HttpCaller,
  user: EtcdUser | undefined,
): (call: EtcdCall) => Promise<unknown> {
  let token: string | undefined;

  async function post({ path, body, signal, lines }: EtcdCall): Promise<unknown> {
    const answer = await http.call({
      method: 'POST',
      path,
      body,
      signal,
      ...(token !== undefined && { headers: { authorization: token } }),
      ...(lines !== undefined && { isEnough: (text) => text.split('\n').length > lines }),
    });
    const text = lines === undefined ? answer.text : answer.text.split('\n')[lines - 1];
    if (answer.status === 200 && text !== undefined && text !== '') return jsonOf(text);
    token = undefined;
    const why = answer.text.slice(0, 256).trim();
    throw new Error(`etcd at ${http.hosts} answered ${path} with ${answer.status}: ${why}`);
  }

  return async (call) => {
    if (user !== undefined && token === undefined) {
      const { signal } = call;
      const granted = await post({ path: '/v3/auth/authenticate', body: user, signal });
      token = textOf(fieldOf(granted, 'token'));
    }
    return post(call);
  };
}

function base64(text: string): string {
  return Buffer.from(text).toString('base64');
}

/** The text behind a base64 field; no more of it than an entry can have. */
function textFrom(field: unknown): string {
  return Buffer.from(textOf(field).slice(0, 1_024), 'base64').toString();
}

/** The gateway writes 64-bit numbers as texts, and leaves out zeros. */
function numberOf(field: unknown): number {
  return Number(textOf(field) || 0);
}

// Consul as a registry, over the HTTP API of the agent beside the node: a service instance per node, with a check that
// the node has to pass again and again, and a blocking query that says when to look again.

import { parseEndpoint } from '../base/endpoint.ts';
import type { DiscoveredNode, Discovery, DiscoveryContext } from '../ports/discovery.ts';
import type { Endpoint } from '../ports/transport.ts';
import {
  fieldOf,
  type HttpAnswer,
  type HttpCall,
  httpCaller,
  jsonOf,
  listOf,
  textOf,
} from './http-caller.ts';
import { type Registry, registryDiscovery } from './registry.ts';
import {
  invalidOption,
  type RegistryOptions,
  type RegistrySettings,
  registrySettings,
  registryUrl,
} from './registry-options.ts';

export interface ConsulDiscoveryOptions extends RegistryOptions {
  /** `http://host:port` of the agent of this machine, or `https://`. */
  readonly url: string;
  /** ACL token that may write the service and read it (default: none). */
  readonly token?: string;
}

/**
 * Finds nodes through Consul.
 *
 * @throws INVALID_OPTION
 */
export function consulDiscovery(options: ConsulDiscoveryOptions): Discovery {
  const settings = registrySettings(options, ['url', 'token']);
  const url = registryUrl(options.url, ['http', 'https']);
  const { token } = options;
  if (token !== undefined && (typeof token !== 'string' || !/^[\x21-\x7e]+$/.test(token))) {
    throw invalidOption('token', 'is no text that a header can carry');
  }
  return registryDiscovery({
    ...settings,
    async connect(context) {
      return consulRegistry({ url, token, settings, context });
    },
  });
}

/** Changes that come in one bunch are looked at once; where they never end, Consul is spared. */
const pauseMs = 1_000;
/** The shortest time after which Consul forgets an instance whose check is not passed. */
const forgottenAfter = '1m';

function consulRegistry(parts: {
  readonly url: URL;
  readonly token: string | undefined;
  readonly settings: RegistrySettings;
  readonly context: DiscoveryContext;
}): Registry {
  const { url, token, settings, context } = parts;
  const { nodeId, endpoint } = context.self;
  const http = httpCaller([url]);
  const service = `kommander-${settings.cluster}`;
  const serviceId = encodeURIComponent(`${service}:${nodeId}`);
  const headers = token === undefined ? {} : { 'x-consul-token': token };
  /** Of the last list; 0: the next one does not wait. */
  let index = 0;

  /** @param others statuses beside 200 that are answers too */
  async function ask(
    call: Omit<HttpCall, 'headers'>,
    others: readonly number[] = [],
  ): Promise<HttpAnswer> {
    const answer = await http.call({ ...call, headers });
    if (answer.status === 200 || others.includes(answer.status)) return answer;
    const why = answer.text.slice(0, 256).trim();
    const path = call.path.replace(/\?.*/, '');
    throw new Error(`consul at ${url.host} answered ${path} with ${answer.status}: ${why}`);
  }

  /** Who is registered with the agent under this id, and whether its check is passed: 404 nobody, 503 it is not. */
  async function holder(signal: AbortSignal): Promise<Endpoint | undefined> {
    const path = `/v1/agent/health/service/id/${serviceId}`;
    const answer = await ask({ method: 'GET', path, signal }, [404, 429, 503]);
    if (answer.status === 404) return undefined;
    const found = textOf(fieldOf(jsonOf(answer.text), 'Service', 'Meta', 'endpoint'));
    return answer.status === 503 && found !== endpoint ? undefined : found;
  }

  async function register(signal: AbortSignal): Promise<void> {
    const { host, port } = parseEndpoint(endpoint, { option: 'advertise' });
    await ask({
      method: 'PUT',
      path: '/v1/agent/service/register?replace-existing-checks=true',
      body: {
        ID: `${service}:${nodeId}`,
        Name: service,
        Address: host,
        Port: port,
        // What nodes read. Address and port are for others: Consul may write the address in another way.
        Meta: { nodeId, endpoint },
        Check: {
          TTL: `${Math.ceil(settings.ttlMs / 1_000)}s`,
          Status: 'passing',
          DeregisterCriticalServiceAfter: forgottenAfter,
        },
      },
      signal,
    });
  }

  async function read(wait: string, signal: AbortSignal): Promise<HttpAnswer> {
    return ask({
      method: 'GET',
      path: `/v1/health/service/${service}?passing=true${wait}`,
      signal,
    });
  }

  return {
    name: `consul at ${url.host}`,
    pauseMs,
    announcer: {
      async announce(signal) {
        const held = await holder(signal);
        if (held === undefined) await register(signal);
        else if (held !== endpoint) return held;
        else {
          const path = `/v1/agent/check/pass/${encodeURIComponent('service:')}${serviceId}`;
          // The agent may have forgotten the instance since it was asked.
          const passed = await ask({ method: 'PUT', path, signal }, [404]);
          if (passed.status === 404) await register(signal);
        }
        return endpoint;
      },
      async withdraw(signal) {
        if ((await holder(signal)) !== endpoint) return;
        await ask(
          { method: 'PUT', path: `/v1/agent/service/deregister/${serviceId}`, signal },
          [404],
        );
      },
    },
    async list(signal) {
      const answer = await read('', signal);
      index = indexOf(answer);
      return listOf(jsonOf(answer.text)).map(nodeOf).sort(byEndpoint);
    },
    async awaitChange(signal) {
      // At least 1: with 0 the answer would come at once, again and again.
      await read(`&index=${Math.max(1, index)}&wait=60s`, signal);
    },
    close: () => http.close(),
  };
}

function nodeOf(instance: unknown): DiscoveredNode {
  const meta = fieldOf(instance, 'Service', 'Meta');
  return { nodeId: textOf(fieldOf(meta, 'nodeId')), endpoint: textOf(fieldOf(meta, 'endpoint')) };
}

/** Instances come in any order; two agents that register one id must not change places. */
function byEndpoint(a: DiscoveredNode, b: DiscoveredNode): number {
  if (a.endpoint === b.endpoint) return 0;
  return a.endpoint < b.endpoint ? -1 : 1;
}

function indexOf({ headers }: HttpAnswer): number {
  const index = Number(headers['x-consul-index'] ?? 0);
  return Number.isSafeInteger(index) ? index : 0;
}

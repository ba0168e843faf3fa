// Redis as a registry: one key per node, with the endpoint as its text and a time to live, and a set of the node ids, so
// that nobody has to search all keys of a Redis that others use too. Each step is one script, which Redis runs as a whole.

import type { DiscoveredNode, Discovery, DiscoveryContext } from '../ports/discovery.ts';
import { entriesMax } from './known-nodes.ts';
import { importRedis, type RedisBinding, type RedisClient } from './redis-client.ts';
import { type Registry, registryDiscovery } from './registry.ts';
import {
  integerOption,
  invalidOption,
  type RegistryOptions,
  type RegistrySettings,
  registrySettings,
  registryUrl,
} from './registry-options.ts';

export interface RedisDiscoveryOptions extends RegistryOptions {
  /** `redis://[[user]:password@]host:port[/database]`; `rediss://` for TLS. */
  readonly url: string;
  /** Milliseconds between two looks at who is there: 100 … 600_000 (default 2_000). */
  readonly pollMs?: number;
}

/**
 * Finds nodes through Redis (6 or newer) with the package `redis`.
 *
 * @throws INVALID_OPTION at once; MISSING_DEPENDENCY at `open`, when the package is not installed
 */
export function redisDiscovery(options: RedisDiscoveryOptions): Discovery {
  const settings = registrySettings(options, ['url', 'pollMs']);
  const url = registryUrl(options.url, ['redis', 'rediss']);
  if (!/^(?:\/\d*)?$/.test(url.pathname)) {
    throw invalidOption('url', 'is not valid: behind the host stands the number of a database');
  }
  const pollMs = integerOption('pollMs', options.pollMs, {
    min: 100,
    max: 600_000,
    byDefault: 2_000,
  });
  return registryDiscovery({
    ...settings,
    async connect(context) {
      return redisRegistry(await importRedis(), { url, pollMs, settings, context });
    },
  });
}

/** Bytes of a text that somebody else may have written; more are not read. */
const textBytesMax = 512;

/** An entry of another endpoint is left alone. Answers with the endpoint that holds the id. */
const announceScript = `
local holder = redis.call('get', KEYS[2])
if holder and holder ~= ARGV[2] then return string.sub(holder, 1, ${textBytesMax}) end
redis.call('set', KEYS[2], ARGV[2], 'PX', ARGV[3])
redis.call('sadd', KEYS[1], ARGV[1])
return ARGV[2]`;

const withdrawScript = `
if redis.call('get', KEYS[2]) ~= ARGV[2] then return 0 end
redis.call('del', KEYS[2])
return redis.call('srem', KEYS[1], ARGV[1])`;

/** Answers with ids and endpoints in turn. Ids whose key has expired leave the set. */
const listScript = `
local found = {}
for _, id in ipairs(redis.call('srandmember', KEYS[1], ARGV[2])) do
  local endpoint = redis.pcall('getrange', ARGV[1] .. id, 0, ${textBytesMax - 1})
  if endpoint == '' then
    redis.call('srem', KEYS[1], id)
  else
    found[#found + 1] = string.sub(id, 1, ${textBytesMax})
    found[#found + 1] = type(endpoint) == 'string' and endpoint or ''
  end
end
return found`;

function redisRegistry(
  binding: RedisBinding,
  parts: {
    readonly url: URL;
    readonly pollMs: number;
    readonly settings: RegistrySettings;
    readonly context: DiscoveryContext;
  },
): Registry {
  const { url, pollMs, settings, context } = parts;
  const { nodeId, endpoint } = context.self;
  // In braces: in a Redis cluster all keys of ours lie together.
  const prefix = `kommander:{${settings.cluster}}:`;
  const keys = [`${prefix}nodes`, `${prefix}node:${nodeId}`];
  let connection: Connection | undefined;

  /** One connection for all questions. One that failed, or did not answer, is left; the next question makes another. */
  async function ask(command: readonly string[], signal: AbortSignal): Promise<unknown> {
    connection ??= connect();
    const used = connection;
    const leave = (): void => {
      if (connection === used) connection = undefined;
      leaveConnection(used);
    };
    signal.addEventListener('abort', leave);
    try {
      await used.ready;
      return await used.client.sendCommand(command);
    } catch (error) {
      leave();
      throw error;
    } finally {
      signal.removeEventListener('abort', leave);
    }
  }

  function connect(): Connection {
    const client = binding.createClient({
      url: url.href,
      socket: { reconnectStrategy: false, connectTimeout: settings.timeoutMs },
      disableOfflineQueue: true,
      // One announcement and one list, and what was given up before.
      commandsQueueMaxLength: 16,
    });
    // The question that meets the error reports it.
    client.on('error', () => {});
    const made = { client, ready: client.connect(), isConnected: false, isLeft: false };
    client.on('connect', () => {
      made.isConnected = true;
      if (made.isLeft) leaveConnection(made);
    });
    return made;
  }

  return {
    name: `redis at ${url.host}`,
    pauseMs: pollMs,
    announcer: {
      async announce(signal) {
        const values = [nodeId, endpoint, String(settings.ttlMs)];
        return String(await ask(['EVAL', announceScript, '2', ...keys, ...values], signal));
      },
      async withdraw(signal) {
        await ask(['EVAL', withdrawScript, '2', ...keys, nodeId, endpoint], signal);
      },
    },
    async list(signal) {
      const values = [`${prefix}node:`, String(entriesMax + 1)];
      return nodesOf(await ask(['EVAL', listScript, '1', `${prefix}nodes`, ...values], signal));
    },
    close() {
      if (connection !== undefined) leaveConnection(connection);
      connection = undefined;
    },
  };
}

interface Connection {
  readonly client: RedisClient;
  /** Resolves when questions can be asked. */
  readonly ready: Promise<unknown>;
  /** The socket is connected. Questions are not yet taken. */
  isConnected: boolean;
  isLeft: boolean;
}

/** Ends a connection; one that is not made yet is ended as soon as it is: the client would forget its socket otherwise. */
function leaveConnection(connection: Connection): void {
  connection.isLeft = true;
  if (connection.isConnected && connection.client.isOpen) connection.client.destroy();
}

function nodesOf(reply: unknown): DiscoveredNode[] {
  const texts = Array.isArray(reply) ? reply.map(String) : [];
  const nodes: DiscoveredNode[] = [];
  for (let at = 0; at + 1 < texts.length; at += 2) {
    nodes.push({ nodeId: texts[at] ?? '', endpoint: texts[at + 1] ?? '' });
  }
  return nodes;
}

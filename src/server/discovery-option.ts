// `--discovery`: a scheme, and where that needs more, a URL. One table says which scheme is which discovery; whoever adds
// one adds a row.

import { readFileSync } from 'node:fs';
import { isKommanderError, KommanderError } from '../base/errors.ts';
import { multicastDiscovery } from '../discovery/multicast.ts';
import { staticDiscovery } from '../discovery/static.ts';
import type { Discovery } from '../ports/discovery.ts';
import type { Endpoint, NodeId } from '../ports/transport.ts';
import { registrySchemes } from './registry-option.ts';

/** First members as `--members` names them. */
export type MemberList = Readonly<Record<NodeId, Endpoint>> | readonly NodeId[];

interface DiscoveryScheme {
  /** How it is written, for help and messages. */
  readonly form: string;
  /** @throws INVALID_OPTION */
  readonly make: (url: URL, members: MemberList) => Discovery;
}

const discoverySchemes: Readonly<Record<string, DiscoveryScheme>> = {
  static: { form: 'static', make: makeStatic },
  multicast: {
    form: 'multicast[://GROUP[:PORT]][?cluster=NAME&interface=ADDRESS&secret-file=PATH]',
    make: makeMulticast,
  },
  ...Object.fromEntries(
    Object.entries(registrySchemes).map(([name, { form, make }]) => [
      name,
      { form, make: (url: URL) => make(url, (path) => secretsOf(path)[0] ?? '') },
    ]),
  ),
};

/** Every form, for help and messages. */
export const discoveryForms: string = Object.values(discoverySchemes)
  .map(({ form }) => form)
  .join(', ');

/** Whether a text names a scheme of the table and, behind it, a URL. */
export function isDiscoveryOption(text: string): boolean {
  return parse(text) !== undefined;
}

/**
 * The discovery that `--discovery` names, not opened.
 *
 * @throws INVALID_OPTION
 */
export function discoveryFor(text: string, members: MemberList): Discovery {
  const parsed = parse(text);
  if (parsed === undefined) throw badDiscovery(text, `expected one of ${discoveryForms}`);
  try {
    return parsed.scheme.make(parsed.url, members);
  } catch (error) {
    if (!isKommanderError(error, 'INVALID_OPTION')) throw error;
    throw badDiscovery(text, error.message, error);
  }
}

/** `multicast`, `multicast?cluster=x` and `multicast://host:port?cluster=x`. */
function parse(text: string): { readonly scheme: DiscoveryScheme; readonly url: URL } | undefined {
  const name = /^[a-z]*/.exec(text)?.[0] ?? '';
  const scheme = Object.hasOwn(discoverySchemes, name) ? discoverySchemes[name] : undefined;
  const rest = text.slice(name.length);
  const url = `${name}:${rest.startsWith('://') ? rest.slice(1) : `//${rest}`}`;
  const isSeparated = rest === '' || rest.startsWith('?') || rest.startsWith('://');
  if (scheme === undefined || !isSeparated || !URL.canParse(url)) return undefined;
  return { scheme, url: new URL(url) };
}

function makeStatic(url: URL, members: MemberList): Discovery {
  if (url.host !== '' || url.pathname !== '' || url.search !== '') {
    throw invalid('static takes no address and no parameters');
  }
  if (!isIdList(members)) return staticDiscovery(members);
  throw invalid(
    'it finds nobody, and --members names no endpoints: write --members a=HOST:PORT,b=HOST:PORT,…, or choose a discovery that finds nodes',
  );
}

const multicastParameters: readonly string[] = ['cluster', 'interface', 'secret-file'];

function makeMulticast(url: URL): Discovery {
  const { searchParams: parameters, hostname, port, pathname } = url;
  for (const name of parameters.keys()) {
    if (multicastParameters.includes(name)) continue;
    throw invalid(`there is no parameter "${name}"; there are ${multicastParameters.join(', ')}`);
  }
  if (pathname !== '' && pathname !== '/') throw invalid('it takes no path');
  const cluster = parameters.get('cluster');
  const secretFile = parameters.get('secret-file');
  const interfaces = parameters.getAll('interface');
  return multicastDiscovery({
    ...(hostname === '' ? {} : { group: hostname.replace(/^\[(.*)\]$/, '$1') }),
    ...(port === '' ? {} : { port: Number(port) }),
    ...(cluster === null ? {} : { cluster }),
    ...(interfaces.length === 0 ? {} : { interfaces }),
    ...(secretFile === null ? {} : { secrets: secretsOf(secretFile) }),
  });
}

/** One secret a line: the first signs, a second one is still believed. An empty file must not mean that nothing is signed. */
function secretsOf(path: string): readonly string[] {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw invalid(`the file of secrets cannot be read: ${reason}`, error);
  }
  const secrets = text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
  if (secrets.length === 0) throw invalid(`the file of secrets ${path} is empty`);
  return secrets;
}

/** Whether the members are named without their endpoints. */
export function isIdList(members: MemberList): members is readonly NodeId[] {
  return Array.isArray(members);
}

function badDiscovery(text: string, problem: string, cause?: unknown): KommanderError {
  return invalid(`--discovery: "${withoutPassword(text)}" is not valid: ${problem}`, cause);
}

/** What stands before an @ may be a secret, also where the text is no URL. */
export function withoutPassword(text: string): string {
  return text.replace(/(^\w*:?\/*).*@/, '$1…@').slice(0, 200);
}

function invalid(problem: string, cause?: unknown): KommanderError {
  const details = { option: 'discovery' };
  return new KommanderError(problem, { code: 'INVALID_OPTION', details, cause });
}

// Whether this machine carries multicast on its loopback interface: asked before the demo starts nodes that would wait for
// each other. Two announcers that hear each other are the proof.

import { isKommanderError, KommanderError } from '../../base/errors.ts';
import { multicastDiscovery } from '../../discovery/multicast.ts';
import type { Discovery, DiscoveryContext } from '../../ports/discovery.ts';
import { silentObserver } from '../../ports/observer.ts';
import { drawNonce } from '../../time/seed.ts';
import { systemClock } from '../../time/system-clock.ts';

const interfaceAddress = '127.0.0.1';
const hearMsMax = 5_000;

/**
 * The `--discovery` of nodes that find each other on the loopback interface, under a name that no other run has.
 *
 * @throws DISCOVERY_FAILED this machine does not carry it
 */
export async function loopbackMulticast(): Promise<string> {
  const cluster = `demo-${drawNonce()}`;
  const first = multicastDiscovery({ cluster, interfaces: [interfaceAddress], intervalMs: 100 });
  const second = multicastDiscovery({ cluster, interfaces: [interfaceAddress], intervalMs: 100 });
  try {
    if (await hears(first, second)) {
      return `multicast://?cluster=${cluster}&interface=${interfaceAddress}`;
    }
  } catch (error) {
    if (!isKommanderError(error)) throw error;
    throw unheard(error.message, error);
  } finally {
    await Promise.all([first.close(), second.close()]);
  }
  throw unheard(`nothing was heard within ${hearMsMax} ms`);
}

async function hears(first: Discovery, second: Discovery): Promise<boolean> {
  const { promise: isHeard, resolve } = Promise.withResolvers<boolean>();
  // A timer of the clock keeps no process alive; the sockets do.
  const timer = systemClock.setTimer(hearMsMax, () => resolve(false));
  try {
    await first.open((nodes) => {
      if (nodes.length === 2) resolve(true);
    }, contextOf('first'));
    await second.open(() => {}, contextOf('second'));
    return await isHeard;
  } finally {
    timer.cancel();
  }
}

function contextOf(name: string): DiscoveryContext {
  const self = { nodeId: name, endpoint: '127.0.0.1:1', startId: name };
  return { self, clock: systemClock, observer: silentObserver };
}

function unheard(reason: string, cause?: unknown): KommanderError {
  return new KommanderError(
    `this machine carries no multicast on ${interfaceAddress} (${reason}); run the demo without --discovery multicast`,
    { code: 'DISCOVERY_FAILED', cause },
  );
}

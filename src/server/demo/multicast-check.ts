// Whether this machine carries multicast on its loopback interface: asked before the demo starts nodes that would wait for
// each other. Two announcers that hear each other are the proof.

import { KommanderError } from '../../base/errors.ts';
import { multicastDiscovery } from '../../discovery/multicast.ts';
import type { DiscoveryContext } from '../../ports/discovery.ts';
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
    const { promise: isHeard, resolve } = Promise.withResolvers<boolean>();
    const timer = systemClock.setTimer(hearMsMax, () => resolve(false));
    await first.open((nodes) => {
      if (nodes.length === 2) resolve(true);
    }, contextOf('first'));
    await second.open(() => {}, contextOf('second'));
    // A timer of the clock keeps no process alive; the sockets do.
    if (!(await isHeard)) throw unheard(undefined);
    timer.cancel();
  } catch (error) {
    if (error instanceof KommanderError && error.code === 'DISCOVERY_FAILED') throw unheard(error);
    throw error;
  } finally {
    await Promise.all([first.close(), second.close()]);
  }
  return `multicast://?cluster=${cluster}&interface=${interfaceAddress}`;
}

function contextOf(name: string): DiscoveryContext {
  const self = { nodeId: name, endpoint: '127.0.0.1:1', startId: name };
  return { self, clock: systemClock, observer: silentObserver };
}

function unheard(cause: KommanderError | undefined): KommanderError {
  const reason = cause?.message ?? `nothing was heard within ${hearMsMax} ms`;
  return new KommanderError(
    `this machine carries no multicast on ${interfaceAddress} (${reason}); run the demo without --discovery multicast`,
    { code: 'DISCOVERY_FAILED', cause },
  );
}

// What a node may announce of itself.

import { parseEndpoint } from '../base/endpoint.ts';
import { KommanderError } from '../base/errors.ts';
import type { DiscoveryContext } from '../ports/discovery.ts';

/** @throws INVALID_OPTION others could not come back to this node */
export function checkOwnEndpoint({ self }: DiscoveryContext): void {
  const { host } = parseEndpoint(self.endpoint, { option: 'advertise' });
  if (host !== '0.0.0.0' && !/^[0:]+$/.test(host)) return;
  throw new KommanderError(
    `option advertise is needed: this node listens on ${self.endpoint}, which tells others nothing; say where it is reached`,
    { code: 'INVALID_OPTION', details: { option: 'advertise' } },
  );
}

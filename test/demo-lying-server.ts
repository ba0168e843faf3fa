// A cluster that lies: every node acknowledges writes that the other nodes never hear of. Run with `serve` it is one
// such node; otherwise it runs the demo over three of them. A demo that does not find this out proves nothing.

import { runDemo } from '../src/server/demo/demo.ts';
import { readDemoOptions } from '../src/server/demo/demo-options.ts';
import { openHttpApi } from '../src/server/http-api.ts';
import { fakeService } from './server-fake-node.ts';

const [, , command = '', ...flags] = process.argv;

if (command === 'serve') await serve(flags[flags.indexOf('--http') + 1] ?? '');
else await demo(command);

async function serve(listen: string): Promise<void> {
  const api = await openHttpApi({ listen });
  const service = fakeService(1);
  const status = service.node.status();
  service.node.status = () => status;
  api.attach(service);
  process.stdin.resume();
  process.stdin.on('end', () => process.exit(0));
  process.on('SIGTERM', () => process.exit(0));
  console.log('kommander ready');
}

async function demo(data: string): Promise<void> {
  const options = { seconds: '1', json: true, partitions: '1', clients: '4', data };
  process.exitCode = await runDemo(readDemoOptions(options), import.meta.filename);
}

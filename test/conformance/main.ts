// The conformance run from the command line: `npm run conformance -- DIR`, where DIR holds the folders `quorum`,
// `confchange` and `interaction`. Prints a difference per failed directive and ends with "N passed, M failed".

import { replayFolder, summaryOf } from './runner.ts';

const [folder, ...others] = process.argv.slice(2);
if (folder === undefined || others.length > 0) {
  console.error('usage: npm run conformance -- DIR');
  process.exitCode = 2;
} else {
  const tally = replayFolder(folder);
  for (const report of tally.reports) console.log(`${report}\n`);
  console.log(summaryOf(tally));
  process.exitCode = tally.failed === 0 && tally.passed > 0 ? 0 : 1;
}

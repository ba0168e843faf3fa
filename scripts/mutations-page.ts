// The page `docs/internals/mutations.md`: what the catalogue says of each seeded bug, and what the last runs of
// `npm run mutate` found. A run of a part changes its rows and columns, and the others keep what they say.

import type { Mutation } from '../test/mutations/mutation.ts';

/** What the page says of the runs of one mutation, as Markdown. */
export interface Findings {
  readonly tests: string;
  readonly simulator: string;
}

/** What the page says where nothing was run yet. */
export const notRun = 'not run yet';

const columns = ['mutation', 'hazards', 'what is wrong', 'killed by the test', 'by the simulator'];

const head = `# Mutations

<!-- Written by \`npm run mutate -- --write\` from test/mutations/ and from what it found. Do not edit. -->

Do the tests prove anything? Each row is a bug that was put into a copy of the sources, alone: the test that noticed
first, and the profile of the simulator that noticed, after how many seeds of 20 seconds. The numbers are those of the
[hazards](hazards.md). \`npm run mutate\` repeats it; \`test/mutations.test.ts\` keeps the catalogue in step with the sources.
`;

/** The text of the page. */
export function mutationsPage(
  mutations: readonly Mutation[],
  unseeded: Readonly<Record<number, string>>,
  findings: ReadonlyMap<string, Findings>,
): string {
  const rows = mutations.map(({ id, hazards, says }) => {
    const { tests, simulator } = findings.get(id) ?? { tests: notRun, simulator: notRun };
    return row([`\`${id}\``, hazards.join(', '), escaped(says), tests, simulator]);
  });
  const without = Object.entries(unseeded).map(([hazard, why]) => `- ${hazard}: ${why}.`);
  return [
    head,
    row(columns),
    `|${'---|'.repeat(columns.length)}`,
    ...rows,
    '',
    'Hazards for which nothing can be seeded:',
    '',
    ...without,
    '',
  ].join('\n');
}

/** What a page of earlier says, by mutation. */
export function findingsOf(page: string): Map<string, Findings> {
  const findings = new Map<string, Findings>();
  for (const line of page.split('\n')) {
    const [mutation = '', , , tests, simulator] = line.slice(2, -2).split(/(?<!\\) \| /);
    const [, id] = /^`([^`]+)`$/.exec(mutation) ?? [];
    if (id === undefined || tests === undefined || simulator === undefined) continue;
    findings.set(id, { tests, simulator });
  }
  return findings;
}

/** Text as it may stand in a cell. */
export function escaped(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('\n', ' ');
}

/** Text in a cell as code. */
export function asCode(text: string): string {
  return `\`${escaped(text).replaceAll('`', '’')}\``;
}

function row(cells: readonly string[]): string {
  return `| ${cells.join(' | ')} |`;
}

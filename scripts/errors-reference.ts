// Writes the reference page of errors from the catalogue in `src/base/errors.ts`, which is the source of truth.

import { errorCatalogue } from '../src/base/errors.ts';

/** The text of `docs/reference/errors.md`. */
export function errorsReference(): string {
  const rows = Object.entries(errorCatalogue)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([code, { retryable, mayHaveCommitted, help }]) =>
      [
        `\`${code}\``,
        yesOrNo(retryable),
        yesOrNo(mayHaveCommitted),
        help.replaceAll('|', '\\|'),
      ].join(' | '),
    );
  return `# Errors

<!-- Written by \`npm run docs\` from src/base/errors.ts. Change the catalogue there, not this page. -->

Every failure that a caller can meet is a \`KommanderError\`. It has a \`code\` from this table, typed \`details\`, a
\`cause\` where there is one, and two answers to the question that matters after a failed write:

- **\`retryable\`**: can the same call succeed when it is tried again?
- **\`mayHaveCommitted\`**: may the failed write still take effect? When it may, retry only what is allowed to happen
  twice.

\`\`\`ts
import { isKommanderError } from 'kommander';

try {
  await node.replicate(1, 'set', data);
} catch (error) {
  if (!isKommanderError(error)) throw error;
  if (error.retryable && !error.mayHaveCommitted) return again();
  report(error.code, error.details);
}
\`\`\`

| code | retryable | may have committed | what happened, and what to do |
|---|---|---|---|
${rows.map((row) => `| ${row} |`).join('\n')}
`;
}

function yesOrNo(value: boolean): string {
  return value ? '**yes**' : 'no';
}

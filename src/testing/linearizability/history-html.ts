// A history as one HTML page that needs nothing else: the picture with every operation, the order of the longest
// linearizable prefix, and what cannot follow. Whatever comes from the history is escaped.

import { describeOperation, type HistoryOperation, type SequentialModel } from './history.ts';
import {
  type PictureInterval,
  type PictureOptions,
  type PictureRow,
  pictureRows,
  pictureSubject,
} from './picture.ts';

const style = `
body { font: 14px/1.4 system-ui, sans-serif; margin: 2em; }
.history { overflow-x: auto; font: 13px/1.4 ui-monospace, monospace; }
.row { display: flex; height: 2.2em; align-items: center; }
.client { flex: none; text-align: right; padding-right: 1ch; }
.time { position: relative; flex: none; height: 1.8em; }
.operation { position: absolute; top: 0; bottom: 0; box-sizing: border-box; white-space: pre; overflow: hidden;
  padding: .15em .5ch; border: 1px solid #789; border-radius: 3px; background: #eef2f6; color: #123; }
.placed { background: #dff0df; border-color: #585; }
.stuck { background: #b00; border-color: #700; color: #fff; font-weight: bold; }
.open { border-right-style: dotted; border-right-width: 4px; }
`;

/**
 * Draws `history` as a page: rows are clients, intervals are operations, a dotted end is an unknown outcome. With the
 * result of a check that found it illegal: all operations of the wrong key, those of the longest linearizable prefix
 * numbered in its order, the one that cannot be placed in red. Columns are no measure of time; times are in the titles.
 */
export function historyHtml<State, Input, Output>(
  model: SequentialModel<State, Input, Output>,
  history: readonly HistoryOperation<Input, Output>[],
  options: PictureOptions<Input, Output> = {},
): string {
  const { operations, heading } = pictureSubject(model, history, options.result);
  const rows = pictureRows(model, operations, options);
  const columns = 1 + Math.max(0, ...rows.map(({ intervals }) => intervals.at(-1)?.end ?? 0));
  const nameColumns = 1 + Math.max(0, ...rows.map(({ client }) => client.length));
  const sizes = `.client { width: ${nameColumns}ch; } .time { width: ${columns}ch; }`;
  return [
    '<!doctype html>',
    '<html lang="en">',
    `<head><meta charset="utf-8"><title>${escaped(heading)}</title><style>${style}${sizes}</style></head>`,
    `<body><h1>${escaped(heading)}</h1>`,
    '<div class="history">',
    ...rows.map(rowHtml),
    '</div>',
    ...prefixHtml(model, options),
    '</body>',
    '</html>',
    '',
  ].join('\n');
}

function rowHtml({ client, intervals }: PictureRow<unknown, unknown>): string {
  const inside = intervals.map(intervalHtml).join('');
  return `<div class="row"><span class="client">${escaped(client)}</span><div class="time">${inside}</div></div>`;
}

function intervalHtml(interval: PictureInterval<unknown, unknown>): string {
  const { operation, standing, label, start, end } = interval;
  const { client, calledAt, returnedAt } = operation;
  const classes = `operation ${standing}${returnedAt === undefined ? ' open' : ''}`;
  const until = returnedAt === undefined ? 'outcome unknown' : `returned at ${returnedAt}`;
  const title = `${label}: client ${client}, called at ${calledAt}, ${until}`;
  const place = `left:${start}ch;width:${end - start + 1}ch`;
  return `<div class="${classes}" style="${place}" title="${escaped(title)}">${escaped(label)}</div>`;
}

function prefixHtml<State, Input, Output>(
  model: SequentialModel<State, Input, Output>,
  { result }: PictureOptions<Input, Output>,
): string[] {
  if (result?.verdict !== 'illegal') return [];
  const item = (operation: HistoryOperation<Input, Output>) =>
    `<li>${escaped(`${describeOperation(model, operation)} (client ${operation.client})`)}</li>`;
  return [
    '<h2>The longest linearizable prefix, in its order</h2>',
    `<ol>${result.prefix.map(item).join('')}</ol>`,
    '<h2>What cannot follow</h2>',
    `<ul>${item(result.stuck)}</ul>`,
  ];
}

function escaped(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
    .replaceAll("'", '&#39;');
}

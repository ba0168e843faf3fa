// Collects what a directive prints. `none` as log level silences everything but errors; an inner block is indented.

export interface Output {
  isQuiet: boolean;
  text: string;
}

/** Prints `text`; give it its newline. */
export function print(output: Output, text: string): void {
  if (!output.isQuiet) output.text += text;
}

/** Runs `block` and indents, by two spaces, the lines that it printed. */
export function indented(output: Output, block: () => void): void {
  const before = output.text;
  output.text = '';
  try {
    block();
  } finally {
    const lines = output.text.replace(/\n$/, '').split('\n');
    const inner = output.text === '' ? '' : lines.map((line) => `  ${line}\n`).join('');
    output.text = before + inner;
  }
}

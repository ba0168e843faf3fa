#!/usr/bin/env node
// The entry of the command `kommander`. It only checks that this Node.js can run the rest: on an older one the user
// reads what to do instead of a syntax error.

const nodeVersionMin = [22, 18] as const;

function isSupported(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  const [majorMin, minorMin] = nodeVersionMin;
  return major > majorMin || (major === majorMin && minor >= minorMin);
}

if (isSupported(process.versions.node)) {
  const { runCommandLine } = await import('./command-line.ts');
  await runCommandLine(process.argv, import.meta.filename);
} else {
  process.stderr.write(
    `kommander needs Node.js ${nodeVersionMin.join('.')} or newer; this is ${process.versions.node} (${process.execPath})\n`,
  );
  process.exitCode = 1;
}

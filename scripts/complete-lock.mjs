// Completes package-lock.json: `node scripts/complete-lock.mjs [--check]`. npm leaves out the optional packages of other
// platforms when the registry at hand does not have them, and `npm ci` then refuses the lock file everywhere. An entry
// with the version that the parent asks for and the platform that the name tells is enough: it is skipped on every
// other platform, and checked against the registry's own checksum where it is wanted.

import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { fail, note, root } from './bootstrap.mjs';

/**
 * @typedef {{ version: string, dev?: boolean, optional?: boolean, os?: string[], cpu?: string[], libc?: string[],
 *   optionalDependencies?: Record<string, string> }} LockedPackage
 */

/** Words in a platform package's name, and npm's own words for them. */
const osOf = new Map([
  ['aix', 'aix'],
  ['android', 'android'],
  ['darwin', 'darwin'],
  ['freebsd', 'freebsd'],
  ['linux', 'linux'],
  ['netbsd', 'netbsd'],
  ['openbsd', 'openbsd'],
  ['openharmony', 'openharmony'],
  ['sunos', 'sunos'],
  ['win32', 'win32'],
]);
const cpuOf = new Map([
  ['aarch64', 'arm64'],
  ['arm', 'arm'],
  ['arm64', 'arm64'],
  ['armv7', 'arm'],
  ['ia32', 'ia32'],
  ['loong64', 'loong64'],
  ['mips64el', 'mips64el'],
  ['ppc64', 'ppc64'],
  ['riscv64', 'riscv64'],
  ['s390x', 's390x'],
  ['x64', 'x64'],
]);
const libcOf = new Map([
  ['gnu', 'glibc'],
  ['gnueabihf', 'glibc'],
  ['musl', 'musl'],
  ['musleabihf', 'musl'],
]);

const file = path.join(root, 'package-lock.json');
const lock = /** @type {{ packages: Record<string, LockedPackage> }} */ (
  JSON.parse(readFileSync(file, 'utf8'))
);
const missing = missingPackages(lock.packages);

if (missing.length === 0) {
  note('package-lock.json is complete');
} else if (process.argv.includes('--check')) {
  const names = missing.map(([name]) => name).join(', ');
  fail(`package-lock.json lacks ${names}: run "npm run fix"`);
} else {
  const packages = [...Object.entries(lock.packages), ...missing];
  lock.packages = Object.fromEntries(packages.sort(([a], [b]) => a.localeCompare(b, 'en')));
  writeFileSync(file, `${JSON.stringify(lock, null, 2)}\n`);
  note(`package-lock.json: added ${missing.length} packages of other platforms`);
}

/**
 * @param {Record<string, LockedPackage>} packages
 * @returns {[string, LockedPackage][]}
 */
function missingPackages(packages) {
  /** @type {[string, LockedPackage][]} */
  const found = [];
  for (const [parentPath, parent] of Object.entries(packages)) {
    if (parentPath === '') continue;
    for (const [name, version] of Object.entries(parent.optionalDependencies ?? {})) {
      const locked =
        packages[`node_modules/${name}`] ?? packages[`${parentPath}/node_modules/${name}`];
      if (locked !== undefined) continue;
      if (!/^\d+\.\d+\.\d+$/.test(version)) fail(`${name}@${version} has no exact version`);
      const { os, cpu, libc } = platformOf(name);
      // In npm's own order of keys, so that npm does not rewrite the file.
      /** @type {LockedPackage} */
      const entry = { version, cpu };
      if (parent.dev === true) entry.dev = true;
      if (libc !== undefined) entry.libc = libc;
      entry.optional = true;
      entry.os = os;
      found.push([`node_modules/${name}`, entry]);
    }
  }
  return found;
}

/** @param {string} name */
function platformOf(name) {
  const words = name.split(/[/-]/);
  const os = words.map((word) => osOf.get(word)).find((word) => word !== undefined);
  const cpu = words.map((word) => cpuOf.get(word)).find((word) => word !== undefined);
  const libc = words.map((word) => libcOf.get(word)).find((word) => word !== undefined);
  if (os === undefined || cpu === undefined) fail(`${name} does not tell its platform`);
  return { os: [os], cpu: [cpu], libc: libc === undefined ? undefined : [libc] };
}

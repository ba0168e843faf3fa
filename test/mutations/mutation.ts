// What a seeded bug is: a small change of the sources as data, what is wrong then, and who should notice. The catalogue
// is in the files beside this one, by section of the list of hazards; `scripts/mutate.ts` applies it.

/** Profiles of the simulator, as `scripts/sim.ts --profile` takes them. */
export type SimulatorProfile = 'quick' | 'swarm' | 'disk' | 'membership' | 'snapshots' | 'pauses';

/** `find` stands in `file` exactly once, and `replace` takes its place. */
export interface Edit {
  /** From the project's root, in `src/`. */
  readonly file: string;
  readonly find: string;
  readonly replace: string;
}

export interface Mutation {
  /** Kebab-case, unique. */
  readonly id: string;
  /** Numbers of the hazards that it lets in. */
  readonly hazards: readonly number[];
  readonly edits: readonly Edit[];
  /** One sentence: what is wrong now. */
  readonly says: string;
  /** Test files that should kill it, the quickest first. */
  readonly tests: readonly string[];
  /** The profile that should find it, or why no run of whole nodes in the simulator can. */
  readonly simulator: SimulatorProfile | { readonly blind: string };
  /** Why the change changes nothing that anybody could see: then nobody has to kill it. */
  readonly equivalent?: string;
}

/** @throws when the text to be replaced is not there exactly once */
export function applyEdit(source: string, { file, find, replace }: Edit): string {
  const parts = source.split(find);
  const count = parts.length - 1;
  if (count !== 1) throw new Error(`${file} has ${count} places, not one, that read: ${find}`);
  return parts.join(replace);
}

/** The texts of the files that `mutation` changes, by file. `read` gives the text of a file of today. */
export function mutatedFiles(
  mutation: Mutation,
  read: (file: string) => string,
): ReadonlyMap<string, string> {
  const files = new Map<string, string>();
  for (const edit of mutation.edits) {
    files.set(edit.file, applyEdit(files.get(edit.file) ?? read(edit.file), edit));
  }
  return files;
}

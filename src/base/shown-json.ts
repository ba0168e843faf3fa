// Values of unknown origin as they are shown in messages: short, and whatever they are.

/** `value` as JSON, cut to `charsMax` characters; in words when there is no JSON of it. */
export function shownJson(value: unknown, charsMax: number): string {
  try {
    return (JSON.stringify(value) ?? 'nothing').slice(0, charsMax);
  } catch (error) {
    // It can be parsed at any depth, but not written.
    if (error instanceof RangeError) return 'a value of too many levels';
    throw error;
  }
}

// URLs of the HTTP API as operators write them.

/** Without the slashes at its end. An expression that looks for them would try at every slash before them, too. */
export function withoutSlashes(url: string): string {
  let end = url.length;
  while (url[end - 1] === '/') end -= 1;
  return url.slice(0, end);
}

/** A size as the AI SDK and the Images API write it, width first. */
export type SizeText = `${number}x${number}`;

/**
 * What to warn of where pictures are of another shape than asked for; nothing where they fit, or nobody asked.
 * @param drawn size of the pictures
 */
export function shapeWarning(asked: string | undefined, drawn: string): string | undefined {
  if (asked === undefined) return undefined;
  const [across, down] = asked.split(':').map(Number);
  const [width, height] = drawn.split('x').map(Number);
  return across * height === down * width ? undefined : `the pictures are ${drawn}, as the model draws them`;
}

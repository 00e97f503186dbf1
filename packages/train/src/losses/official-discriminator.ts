/** How the parameters of a discriminator are called in an official checkpoint, and what else lies beside them. */
export interface OfficialDiscriminator {
  /** The official name of a parameter. */
  name(own: string): string;
  /** Channels of its batch norms by their official names: torch keeps running statistics of each, which training never reads. */
  readonly norms: ReadonlyMap<string, string>;
}

const NORM = /^main\.(\d+)\.norm\.(weight|bias)$/;

/**
 * The official PatchGAN numbers its activations, too: convolution, activation, then convolution, norm and activation for each inner
 * layer, and a convolution. Any other discriminator keeps its own names.
 * @param names of all its parameters
 */
export function officialDiscriminator(names: readonly string[]): OfficialDiscriminator {
  const inner = names.flatMap((name) => NORM.exec(name)?.[1] ?? []).map(Number);
  // Convolutions before batch norms have no bias.
  const isOfficial = inner.length > 0 && inner.every((i) => !names.includes(`main.${i}.bias`));
  if (!isOfficial) return { name: (own) => own, norms: new Map() };
  const convolution = (i: number) => (i === 0 ? 0 : 3 * i - 1);
  const name = (own: string) => {
    const [, i, part] = NORM.exec(own) ?? [];
    if (i !== undefined) return `main.${convolution(Number(i)) + 1}.${part}`;
    return own.replace(/^main\.(\d+)\./, (_, layer) => `main.${convolution(Number(layer))}.`);
  };
  const norms = new Set(inner);
  return {
    name,
    norms: new Map([...norms].map((i) => [`main.${convolution(i) + 1}`, `main.${i}.norm.weight`])),
  };
}

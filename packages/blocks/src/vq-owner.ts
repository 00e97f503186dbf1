/** What is known of a VQ tokenizer's file. */
export interface VqFile {
  /** Shapes of its weights by name. */
  readonly weights: {
    /** A weight's shape. */
    get(name: string): { readonly shape: readonly number[] } | undefined;
  };
  readonly file: string;
  readonly settings: Readonly<Record<string, unknown>>;
}

/**
 * Whose a VQ tokenizer is. LlamaGen's and FlexVAR's have the same names and layers: settings say it ("system"), or the
 * name of the file, or the width of a code, which is 8 in LlamaGen's released tokenizers and 32 in FlexVAR's.
 */
export function vqOwner({ weights, file, settings }: VqFile): 'llamagen' | 'flexvar' {
  if (settings.system !== undefined) return settings.system === 'flexvar' ? 'flexvar' : 'llamagen';
  const name = file.split('/').pop() ?? '';
  const isWide = weights.get('quantize.embedding.weight')?.shape[1] === FLEXVAR_CODE_WIDTH;
  return isWide || /flex/i.test(name) ? 'flexvar' : 'llamagen';
}

const FLEXVAR_CODE_WIDTH = 32;

import { strideOf, vqOwner } from '@detailflow/blocks';
import { type Family, type FamilyModel, familyOfHalves, type ModelHalves } from '@detailflow/checkpoint';
import { DetailFlowError } from '@detailflow/core';
import { gptRule, vqRule } from './family-rules';
import { gptPart } from './gpt-half';
import { releasedGptFiles } from './released-files';
import type { VqConfig } from './vq-config';
import { orderOf, vqConfigIn, vqGraphs, vqHalf } from './vq-half';
import { createVqTokenizer } from './vq-tokenizer';

/**
 * LlamaGen: GPTs for classes and for texts, of 256, 384 and 512 pixels, and their VQ tokenizers, or such a tokenizer alone.
 * @see https://detailflow.github.io/detailflow-ts/definitions/llamagen.html
 */
export const llamagenFamily: Family = familyOfHalves({
  name: 'LlamaGen',
  rules: { tokenizer: vqRule, ar: gptRule('llamagen') },
  owns({ tokenizer, others }) {
    // Beside a transformer of PAR, VAR or FlexVAR it is no tokenizer alone.
    const isHalf = [...others.values()].some((weights) => transformers.some((name) => weights.has(name)));
    return !isHalf && tokenizer !== undefined && vqOwner(tokenizer) === 'llamagen';
  },
  model: (halves) => modelOf('LlamaGen', halves),
});

/** PAR: the same tokenizers, with a transformer that draws regions in parallel. */
export const parFamily: Family = familyOfHalves({
  name: 'PAR',
  rules: { tokenizer: vqRule, ar: gptRule('par') },
  owns: () => false,
  model: (halves) => modelOf('PAR', halves),
});

const transformers = ['word_embed.weight', 'tok_embeddings.weight'];

function modelOf(family: string, { tokenizer: found, ar, close }: ModelHalves): FamilyModel {
  const alone = vqConfigIn(found);
  const transformer = ar && gptPart(ar, { config: alone, file: found.file });
  const gpt = transformer?.gpt;
  // A tokenizer serves pictures of any size: the transformer says which it draws.
  const config: VqConfig = gpt
    ? { ...alone, imageSize: Math.sqrt(gpt.tokens) * strideOf(alone.encoder) }
    : alone;
  const tokenizer = vqHalf(found, config);
  if (gpt && gpt.vocabularySize !== config.codebookSize) {
    throw new DetailFlowError(
      'config',
      `tokenizer and transformer do not belong together: ${found.file} has ${config.codebookSize} codes, the transformer ${gpt.vocabularySize}`,
      { file: ar?.file },
    );
  }
  const order = gpt?.kind === 'class' ? orderOf(gpt) : undefined;
  const { weights, file } = tokenizer;
  const { gpt: _, graphs, ...parts } = transformer ?? {};
  return {
    ...{ family, pictureSize: config.imageSize, tokenizer, close },
    createTokenizer: ({ backend }) => createVqTokenizer({ config, weights, file, backend, order }),
    ...parts,
    graphs: { ...vqGraphs({ config, weights }), ...graphs },
    releasedFiles: () => releasedGptFiles(tokenizer, transformer?.ar, gpt),
  };
}

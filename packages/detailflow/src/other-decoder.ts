import type { FamilyModel } from '@detailflow/checkpoint';
import { DetailFlowError, readFloat32, type Weight } from '@detailflow/core';
import { requireSameHeldOut } from '@detailflow/data';
import { isOfDecoder, type TokenizerConfig, tokenizerParameters } from '@detailflow/tokenizer';
import { checked, isDetailFlow } from './detailflow-family';
import { heldOutBy } from './held-out-by';

/**
 * A model of DetailFlow with the decoder of another. Codes keep their meaning, so its AR model goes on fitting; the decoder may have
 * other sizes.
 * @throws DetailFlowError `config` for a decoder of other codes or images, or one that was trained on images that the model held out;
 *   `weights` where encoder or codebook differ in a single number; `unsupported` for other families
 */
export async function withDecoder(model: FamilyModel, other: FamilyModel): Promise<FamilyModel> {
  const file = other.tokenizer.file;
  if (!isDetailFlow(model) || !isDetailFlow(other)) {
    const { family } = isDetailFlow(model) ? other : model;
    throw new DetailFlowError(
      'unsupported',
      `decoders are exchanged in models of DetailFlow; this is ${family}`,
      {
        file,
      },
    );
  }
  const [own, its] = [model.tokenizer, other.tokenizer];
  requireSameConfig(own.config, its.config, file);
  const record = heldOutBy(model.card, own.file);
  if (record) requireSameHeldOut(record, [{ heldOut: heldOutBy(other.card, file), file }]);
  for (const { name } of tokenizerParameters(its.config)) {
    if (isOfDecoder(name) || (await areEqual(own.weights.get(name), its.weights.get(name)))) continue;
    throw new DetailFlowError(
      'weights',
      `differs from that of ${own.file}, so this decoder learned other codes: train it with --init MODEL and tokenizer.finetuneDecoder`,
      { file, entry: name },
    );
  }
  const { kind, card, ar, close } = model;
  return checked({ kind, card, ar, tokenizer: its, close });
}

function requireSameConfig(own: TokenizerConfig, its: TokenizerConfig, file: string): void {
  const names = new Set([...Object.keys(own), ...Object.keys(its)]) as Set<keyof TokenizerConfig>;
  for (const name of names) {
    if (name === 'decoder' || name === 'causalDecoder') continue;
    const [must, has] = [own, its].map((config) => JSON.stringify(config[name]));
    if (must === has) continue;
    throw new DetailFlowError(
      'config',
      `is ${has} of the tokenizer with this decoder, ${must} of the model`,
      {
        ...{ file, entry: name },
      },
    );
  }
}

/** Bit by bit as numbers; both were found when their files were opened. */
async function areEqual(...weights: (Weight | undefined)[]): Promise<boolean> {
  const [a, b] = await Promise.all(weights.map((weight) => readFloat32(weight as Weight)));
  return a.length === b.length && a.every((value, i) => value === b[i]);
}

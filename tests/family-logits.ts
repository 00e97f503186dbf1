import path from 'node:path';
import { type Backend, type Condition, Tensor, type WeightDType } from '@detailflow/core';
import { load, type ModelSource } from 'detailflow';

const family = (name: string) => path.join(import.meta.dirname, 'fixtures/golden/family', name);
const gpt = (ar: string): ModelSource => ({ tokenizer: family('llamagen/vq'), ar: family(ar) });

const text: Condition = {
  features: new Tensor(
    'float32',
    Float32Array.from({ length: 120 }, (_, i) => Math.sin(i)),
    [6, 20],
  ),
};

/** Small models of the families, and what to draw with them. */
export const familyModels: readonly [string, ModelSource, Condition][] = [
  ['LlamaGen', gpt('llamagen/gpt_c2i'), 1],
  ['LlamaGen, texts', gpt('llamagen/gpt_t2i'), text],
  ['PAR, four regions', gpt('par/g4'), 1],
  ['PAR, sixteen regions', gpt('par/g16'), 1],
  ['VAR', family('var'), 1],
  ['FlexVAR', family('flexvar'), 1],
];

/** Logits of all steps of a model, along the same tokens for every storage of its weights. */
export async function logits(
  source: ModelSource,
  condition: Condition,
  { device, dtype }: { device: Backend; dtype?: WeightDType },
): Promise<Float32Array> {
  const model = await load(source, { backend: device, dtype });
  const { tokenModel } = model;
  if (!tokenModel) throw new Error('no AR model');
  const session = await tokenModel.begin([condition]);
  const all: number[] = [];
  let chosen: Int32Array | undefined;
  while (session.position < tokenModel.tokens) {
    all.push(...(await session.predict(chosen)).data);
    const [from, count] = [session.position, session.nextCount];
    if (from + count >= tokenModel.tokens) break;
    chosen = Int32Array.from({ length: count }, (_, i) => (7 * (from + i)) % tokenModel.vocabularySize);
  }
  await session.dispose();
  await model.dispose();
  return Float32Array.from(all);
}

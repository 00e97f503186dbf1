// LlamaGen's text-conditional models draw for features of flan-t5-xl. Here they come from transformers.js, which is no
// dependency of any package: npm install @huggingface/transformers
// A server takes the same from a module: see text-encoder.mjs.
// Run from the repository root, with the released files: npx tsx examples/text-to-image.ts vq_ds16_t2i.pt t2i_XL_stage1_256.pt "a red fox"
// The encoder is `onnx/encoder_model.onnx` of an export of google/flan-t5-xl: set T5_MODEL to the name of one, or to its folder inside
// the models folder of transformers.js. (`optimum-cli export onnx --model google/flan-t5-xl FOLDER` makes one.)
// It is tested with transformers.js 4.3 and small models; with the released weights, which take gigabytes, it was never run.
// The caption is taken as it is; the official programs first clean it (lower case, no links, no odd punctuation).
import { writeFile } from 'node:fs/promises';
import { Tensor, type TextCondition } from '@detailflow/core';
import { createNodeBackend, Model, openFamilyModel } from 'detailflow';

const [vq, gpt, caption = 'a red fox in the snow'] = process.argv.slice(2);
if (vq === undefined || gpt === undefined)
  throw new Error('give the tokenizer, the transformer and a caption');

/** What is used of transformers.js: a tokenizer, and the encoder half of a T5. */
interface TransformersJs {
  readonly AutoTokenizer: {
    from_pretrained(
      model: string,
    ): Promise<(text: string, options: object) => { input_ids: Features; attention_mask: Features }>;
  };
  readonly PreTrainedModel: {
    from_pretrained(
      model: string,
      options: object,
    ): Promise<(inputs: object) => Promise<{ last_hidden_state: Features }>>;
  };
}

interface Features {
  readonly dims: readonly number[];
  readonly data: ArrayLike<number | bigint>;
}

/** Features of a caption, float32 [T, 2048], and which rows belong to it. The released models have 120 places for a text. */
async function textFeatures(text: string, places: number): Promise<TextCondition> {
  const name = '@huggingface/transformers';
  const { AutoTokenizer, PreTrainedModel } = (await import(name)) as TransformersJs;
  const model = process.env.T5_MODEL ?? 'Xenova/flan-t5-xl';
  const [tokenize, encode] = await Promise.all([
    AutoTokenizer.from_pretrained(model),
    // There is no class of T5's encoder alone; the base class takes a file that has one part.
    PreTrainedModel.from_pretrained(model, { model_file_name: 'encoder_model', dtype: 'fp32' }),
  ]);
  const inputs = tokenize(text, { padding: 'max_length', max_length: places, truncation: true });
  const { last_hidden_state: features } = await encode(inputs);
  const [, rows, width] = features.dims;
  return {
    features: new Tensor('float32', Float32Array.from(features.data, Number), [rows, width]),
    mask: new Tensor('bool', Uint8Array.from(inputs.attention_mask.data, Number), [rows]),
  };
}

const opened = await openFamilyModel({ tokenizer: vq, ar: gpt });
const sizes = opened.ar?.text;
if (!sizes) throw new Error(`${gpt} draws for classes, not for texts`);
const text = sizes.padded(await textFeatures(caption, sizes.places));
const model = new Model(opened, await createNodeBackend(), { ownsBackend: true });
for await (const step of model.generate({ labels: [text], seed: 0 })) {
  if (step.count === step.total) await writeFile('text-to-image.png', await (await step.image()).toPng());
}
await model.dispose();
console.log('text-to-image.png');

// Reads the prompts of LlamaGen's text-conditional models with transformers.js, which is no dependency of any package:
//   npm install @huggingface/transformers
//   npx detailflow serve --tokenizer vq_ds16_t2i.pt --ar t2i_XL_stage1_256.pt --text-encoder examples/text-encoder.mjs
// The same function is the option `encodeText` of startImageServer.
// It is tested with a small model and a stand-in for transformers.js; with the released weights, which take gigabytes, it was never run,
// and another export of the encoder may have another name.
// The caption is taken as it is; the official programs first clean it (lower case, no links, no odd punctuation).
import { AutoTokenizer, T5EncoderModel } from '@huggingface/transformers';

/** Any export of google/flan-t5-xl whose encoder is 2048 wide. */
const MODEL = 'Xenova/flan-t5-xl';
/** Prompts whose features are kept: 1 MB each with the released models. */
const KEPT = 100;

/** Loaded with the first prompt; if that fails, the next one tries again. */
let loading;
const load = () => {
  loading ??= Promise.all([
    AutoTokenizer.from_pretrained(MODEL),
    T5EncoderModel.from_pretrained(MODEL, { dtype: 'fp32' }),
  ]).catch((error) => {
    loading = undefined;
    throw error;
  });
  return loading;
};

const known = new Map();

/** Features [1, T, 2048] of a prompt, and which of their rows belong to it. What is beyond the places of the model is cut off. */
export async function encodeText(prompt, { places, signal }) {
  const found = known.get(prompt);
  if (found) return found;
  const [tokenize, encode] = await load();
  signal.throwIfAborted(); // a run of the encoder itself cannot be stopped
  const inputs = tokenize(prompt, { padding: 'max_length', max_length: places, truncation: true });
  const { last_hidden_state: features } = await encode(inputs);
  const text = { features, mask: inputs.attention_mask };
  if (known.size >= KEPT) known.delete(known.keys().next().value);
  known.set(prompt, text);
  return text;
}

// Reads the prompts of LlamaGen's text-conditional models with transformers.js, which is no dependency of any package:
//   npm install @huggingface/transformers
//   npx detailflow serve --tokenizer vq_ds16_t2i.pt --ar t2i_XL_stage1_256.pt --text-encoder examples/text-encoder.mjs
// The same function is the option `encodeText` of startImageServer.
// The encoder is `onnx/encoder_model.onnx` of an export of google/flan-t5-xl: set T5_MODEL to the name of one, or to its folder inside
// the models folder of transformers.js. (`optimum-cli export onnx --model google/flan-t5-xl FOLDER` makes one.)
// It is tested with transformers.js 4.3 and small models; with the released weights, which take gigabytes, it was never run.
// The caption is taken as it is; the official programs first clean it (lower case, no links, no odd punctuation).
import { AutoTokenizer, PreTrainedModel } from '@huggingface/transformers';

const MODEL = process.env.T5_MODEL ?? 'Xenova/flan-t5-xl';
/** Prompts whose features are kept: 1 MB each with the released models. */
const KEPT = 100;

/** Loaded with the first prompt; if that fails, the next one tries again. */
let loading;
const load = () => {
  loading ??= Promise.all([
    AutoTokenizer.from_pretrained(MODEL),
    // There is no class of T5's encoder alone; the base class takes a file that has one part.
    PreTrainedModel.from_pretrained(MODEL, { model_file_name: 'encoder_model', dtype: 'fp32' }),
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

import { t5Features, t5Pieces } from './t5-folder';

const WIDTH = 20;
const pieces = Object.fromEntries(t5Pieces.map((piece, i) => [piece === '\u2581' ? ' ' : piece, i]));

/** The address of a module with what the examples use of transformers.js: it reads texts as the real one reads the folder of `writeT5Folder`. */
export const t5Library = `data:text/javascript,${encodeURIComponent(`
  const [pieces, table] = ${JSON.stringify([pieces, t5Pieces.map((_, token) => t5Features(token, WIDTH))])};
  const tensor = (dims, data) => ({ dims, data });
  export const AutoTokenizer = { from_pretrained: async () => (text, { padding, max_length, truncation }) => {
    if (padding !== 'max_length' || !truncation) throw new Error('the length is not fixed');
    const tokens = [...[...' ' + text].map((letter) => pieces[letter]), 1].slice(0, max_length);
    const fill = (values) => BigInt64Array.from({ length: max_length }, (_, i) => BigInt(values[i] ?? 0));
    return {
      input_ids: tensor([1, max_length], fill(tokens)),
      attention_mask: tensor([1, max_length], fill(tokens.map(() => 1))),
    };
  } };
  export const PreTrainedModel = { from_pretrained: async (_, { model_file_name, dtype }) => {
    if (model_file_name !== 'encoder_model' || dtype !== 'fp32') throw new Error('this is no encoder in float32');
    return async ({ input_ids, attention_mask }) => {
      const rows = [...input_ids.data].map((token, i) => table[token].map((x) => x * Number(attention_mask.data[i])));
      return { last_hidden_state: tensor([1, rows.length, ${WIDTH}], Float32Array.from(rows.flat())) };
    };
  } };
`)}`;

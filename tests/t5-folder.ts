import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import protobuf from 'protobufjs';

/** What an .onnx file of a few nodes needs of the format, with the field numbers of the standard. */
const { root } = protobuf.parse(`
  syntax = "proto3";
  message Model { int64 ir_version = 1; Graph graph = 7; repeated OperatorSet opset_import = 8; }
  message OperatorSet { string domain = 1; int64 version = 2; }
  message Graph {
    repeated Node node = 1; string name = 2; repeated Tensor initializer = 5;
    repeated ValueInfo input = 11; repeated ValueInfo output = 12;
  }
  message Node { repeated string input = 1; repeated string output = 2; string op_type = 4; repeated Attribute attribute = 5; }
  message Attribute { string name = 1; int64 i = 3; int32 type = 20; }
  message Tensor { repeated int64 dims = 1; int32 data_type = 2; repeated float float_data = 4; repeated int64 int64_data = 7; string name = 8; }
  message ValueInfo { string name = 1; Type type = 2; }
  message Type { TensorType tensor_type = 1; }
  message TensorType { int32 elem_type = 1; Shape shape = 2; }
  message Shape { repeated Dim dim = 1; }
  message Dim { int64 dim_value = 1; string dim_param = 2; }
`);
const [FLOAT, INT64, INTEGER_ATTRIBUTE] = [1, 7, 2];

/** Pieces of the vocabulary, the text of token i at i: padding, end and unknown, then the space and the letters. */
export const t5Pieces: readonly string[] = [
  '<pad>',
  '</s>',
  '<unk>',
  '\u2581',
  ...'abcdefghijklmnopqrstuvwxyz',
];

/** Token numbers of a text of letters and spaces, as a T5 has them: a space before the first word, the end behind the last. */
export const t5Tokens = (text: string): number[] => [
  ...[...` ${text}`].map((letter) => t5Pieces.indexOf(letter === ' ' ? '\u2581' : letter)),
  1,
];

/** Features of a token: one row of the table that the encoder looks them up in. */
export const t5Features = (token: number, width: number): number[] =>
  Array.from({ length: width }, (_, column) => Math.fround(Math.sin((token + 1) * (column + 1))));

/**
 * Writes a T5 in the layout of exported models, as small as one can be: a tokenizer of letters, and an encoder whose features are a
 * table, zero where the mask is. There is no decoder.
 */
export function writeT5Folder(folder: string, width: number): void {
  mkdirSync(path.join(folder, 'onnx'), { recursive: true });
  const json = (name: string, value: unknown) =>
    writeFileSync(path.join(folder, name), JSON.stringify(value));
  json('config.json', {
    ...{ model_type: 't5', architectures: ['T5ForConditionalGeneration'], is_encoder_decoder: true },
    ...{ d_model: width, vocab_size: t5Pieces.length, pad_token_id: 0, eos_token_id: 1 },
  });
  json('tokenizer_config.json', {
    ...{ tokenizer_class: 'T5Tokenizer', model_max_length: 512 },
    ...{ pad_token: '<pad>', eos_token: '</s>', unk_token: '<unk>' },
  });
  const added = t5Pieces.slice(0, 3).map((content, id) => ({
    ...{ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true },
  }));
  const space = { type: 'Metaspace', replacement: '\u2581', prepend_scheme: 'always', split: true };
  json('tokenizer.json', {
    ...{ version: '1.0', truncation: null, padding: null, added_tokens: added, normalizer: null },
    ...{ pre_tokenizer: space, decoder: space },
    post_processor: {
      type: 'TemplateProcessing',
      single: [{ Sequence: { id: 'A', type_id: 0 } }, { SpecialToken: { id: '</s>', type_id: 0 } }],
      pair: [],
      special_tokens: { '</s>': { id: '</s>', ids: [1], tokens: ['</s>'] } },
    },
    model: {
      type: 'Unigram',
      unk_id: 2,
      vocab: t5Pieces.map((piece, i) => [piece, i < 3 ? 0 : -1 - i / 100]),
    },
  });
  writeFileSync(path.join(folder, 'onnx', 'encoder_model.onnx'), encoder(width));
}

function encoder(width: number): Uint8Array {
  const value = (name: string, elemType: number, dims: readonly (string | number)[]) => ({
    name,
    type: {
      tensorType: {
        elemType,
        shape: { dim: dims.map((dim) => (typeof dim === 'string' ? { dimParam: dim } : { dimValue: dim })) },
      },
    },
  });
  const table = t5Pieces.flatMap((_, token) => t5Features(token, width));
  const Model = root.lookupType('Model');
  return Model.encode(
    Model.fromObject({
      irVersion: 8,
      opsetImport: [{ domain: '', version: 17 }],
      graph: {
        name: 'encoder',
        node: [
          { opType: 'Gather', input: ['table', 'input_ids'], output: ['rows'] },
          {
            ...{ opType: 'Cast', input: ['attention_mask'], output: ['mask'] },
            attribute: [{ name: 'to', i: FLOAT, type: INTEGER_ATTRIBUTE }],
          },
          { opType: 'Unsqueeze', input: ['mask', 'last'], output: ['column'] },
          { opType: 'Mul', input: ['rows', 'column'], output: ['last_hidden_state'] },
        ],
        initializer: [
          { name: 'table', dims: [t5Pieces.length, width], dataType: FLOAT, floatData: table },
          { name: 'last', dims: [1], dataType: INT64, int64Data: [2] },
        ],
        input: ['input_ids', 'attention_mask'].map((name) => value(name, INT64, ['batch', 'length'])),
        output: [value('last_hidden_state', FLOAT, ['batch', 'length', width])],
      },
    }),
  ).finish();
}

import { DetailFlowError } from '@detailflow/core';
import { convert } from '../convert';
import { convertToReleased } from '../released-layout';
import { type Command, type Invocation, type Report, UsageError } from './command';
import { familiesOf } from './family-module';
import { familyOptions, hubOptions, modelSource, namedFolder } from './model-options';
import { modelSettings } from './model-settings';
import { following } from './progress';
import { Values } from './values';

export const convertCommand: Command = {
  name: 'convert',
  summary: 'make a bundle, one folder with config.json and safetensors; or the files that a family releases',
  usage: '(--model DIR | --tokenizer DIR [--ar DIR]) --out BUNDLE [OPTIONS]',
  options: {
    ...familyOptions,
    layout: {
      type: 'string',
      value: 'L',
      help: 'bundle (default), or released: the files as the official programs of the family read them',
    },
    out: { type: 'string', value: 'DIR', help: 'folder to make' },
    dtype: {
      type: 'string',
      value: 'D',
      help: 'fp32 (default), fp16; q8, q4: matrices of the AR model in 8 or 4 bits, of the decoder in 8',
    },
    calibrate: {
      type: 'boolean',
      help: 'with q8 or q4: draw pictures first, and round by what goes into the matrices',
    },
    decoder: {
      type: 'string',
      value: 'DIR',
      source: 'model',
      help: "a DetailFlow tokenizer of the same codes, whose decoder replaces the model's",
    },
    name: { type: 'string', value: 'TEXT', help: 'name on the model card' },
    license: { type: 'string', value: 'TEXT', help: 'licence of the weights (SPDX)' },
    description: { type: 'string', value: 'TEXT', help: 'one line on the model card' },
    attribution: { type: 'string', value: 'TEXT', help: 'whom to credit' },
    'class-names': { type: 'string', value: 'A,B,...', help: 'names of the classes, in order' },
    subject: { type: 'string', value: 'TEXT', help: 'what it draws, such as "emoji on white"' },
    cfg: { type: 'string', value: 'W', help: 'the guidance scale that the card recommends' },
    overwrite: { type: 'boolean', help: 'replace a bundle that is there' },
  },
  examples: [
    'convert --tokenizer official/tokenizer --ar official/ar --license MIT --out fashion',
    'convert --tokenizer vq_ds16_c2i.pt --ar c2i_L_384.pt --license MIT --out llamagen-l',
    'convert --model llamagen-l --dtype q4 --calibrate --out llamagen-l-q4',
    'convert --model emoji --decoder runs/sharper/bundle --out emoji-sharper',
    'convert --model llamagen-l --layout released --out files/',
  ],
  async run(invocation) {
    const { positionals, signal, progress } = invocation;
    const values = new Values(invocation);
    if (positionals.length > 0) throw new UsageError(`"${positionals[0]}" is not expected here`);
    const out = values.required('out');
    if (values.choice('layout', ['bundle', 'released']) === 'released') {
      return writeReleased(invocation, values, out);
    }
    const [settings, families] = [await modelSettings(values), await familiesOf(values)];
    const dtype = values.choice('dtype', ['fp32', 'fp16', 'q8', 'q4']);
    const decoder = values.text('decoder');
    try {
      const card = await convert(modelSource(values, 'tokenizer'), out, {
        name: values.text('name'),
        license: values.text('license'),
        description: values.text('description'),
        attribution: values.text('attribution'),
        classNames: values
          .text('class-names')
          ?.split(',')
          .map((name) => name.trim()),
        subject: values.text('subject'),
        cfg: values.number('cfg'),
        overwrite: values.flag('overwrite'),
        dtype: dtype && storage[dtype],
        calibrate: values.flag('calibrate'),
        decoder: decoder === undefined ? undefined : namedFolder(decoder),
        ...{ settings, families, hub: hubOptions(values), signal },
        onProgress: following(progress),
      });
      return { lines: [`${card.name}: ${out}`], json: { out, card } };
    } catch (error) {
      // All arguments stand on the command line.
      const misused = DetailFlowError.isInstance(error) && error.code === 'invalid-argument';
      throw misused ? new UsageError(error.message) : error;
    } finally {
      progress.stop();
    }
  },
};

const storage = { fp32: 'f32', fp16: 'f16', q8: 'q8', q4: 'q4' } as const;

/** Of a card, which released files have not, and of a bundle's storage. */
const bundleOnly = [
  ...['dtype', 'calibrate', 'decoder', 'name', 'license', 'description', 'attribution', 'class-names'],
  ...['subject', 'cfg', 'overwrite'],
];

async function writeReleased(invocation: Invocation, values: Values, out: string): Promise<Report> {
  const given = bundleOnly.find((name) => invocation.values[name] !== undefined);
  if (given !== undefined) throw new UsageError(`--${given} is for a bundle, not for --layout released`);
  const { signal, progress } = invocation;
  try {
    const files = await convertToReleased(modelSource(values, 'tokenizer'), out, {
      ...{ settings: await modelSettings(values), families: await familiesOf(values) },
      ...{ hub: hubOptions(values), signal },
      onProgress: following(progress),
    });
    return {
      lines: [`${files.length} files: ${out}`, ...files.map((file) => `  ${file}`)],
      json: { out, files },
    };
  } finally {
    progress.stop();
  }
}

import { DetailFlowError } from '@detailflow/core';
import { convert } from '../convert';
import { type Command, UsageError } from './command';
import { modelOptions, modelSource } from './model-options';
import { Values } from './values';

export const convertCommand: Command = {
  name: 'convert',
  summary: 'make a bundle: one folder with config.json and safetensors',
  usage: '(--model DIR | --tokenizer DIR [--ar DIR]) --out BUNDLE [OPTIONS]',
  options: {
    ...modelOptions,
    out: { type: 'string', value: 'DIR', help: 'folder to make' },
    dtype: { type: 'string', value: 'D', help: 'storage of the weights: fp32 (default) or fp16' },
    name: { type: 'string', value: 'TEXT', help: 'name on the model card' },
    license: { type: 'string', value: 'TEXT', help: 'licence of the weights (SPDX)' },
    description: { type: 'string', value: 'TEXT', help: 'one line on the model card' },
    attribution: { type: 'string', value: 'TEXT', help: 'whom to credit' },
    'class-names': { type: 'string', value: 'A,B,...', help: 'names of the classes, in order' },
    overwrite: { type: 'boolean', help: 'replace a bundle that is there' },
  },
  examples: ['convert --tokenizer official/tokenizer --ar official/ar --license MIT --out fashion'],
  async run(invocation) {
    const { positionals, signal, progress } = invocation;
    const values = new Values(invocation);
    if (positionals.length > 0) throw new UsageError(`"${positionals[0]}" is not expected here`);
    const out = values.required('out');
    const dtype = values.choice('dtype', ['fp32', 'fp16']);
    let begun = false;
    let done = 0;
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
        overwrite: values.flag('overwrite'),
        dtype: dtype === 'fp16' ? 'f16' : 'f32',
        signal,
        onProgress(state) {
          if (!begun) progress.start(state.total, 'bytes');
          begun = true;
          progress.advance(state.done - done);
          done = state.done;
        },
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

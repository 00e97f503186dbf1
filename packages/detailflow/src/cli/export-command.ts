import { exportOnnx } from '../export-onnx';
import { type Command, UsageError } from './command';
import { hasExtension } from './files';
import { modelOptions, modelSource } from './model-options';
import { Values } from './values';

export const exportCommand: Command = {
  name: 'export',
  summary: 'write the whole generator as one ONNX model',
  usage: '(--model DIR | --tokenizer DIR --ar DIR) --out FILE.onnx [OPTIONS]',
  options: {
    ...modelOptions,
    'gradual-cfg': { type: 'boolean', help: 'lower the guidance scale group by group' },
    out: { type: 'string', value: 'FILE', help: 'the .onnx file; its weights go beside it, into FILE.data' },
  },
  examples: ['export --model @detailflow/model-fashion-32 --out out/fashion.onnx'],
  async run(invocation) {
    const { positionals, signal, progress } = invocation;
    const values = new Values(invocation);
    if (positionals.length > 0) throw new UsageError(`"${positionals[0]}" is not expected here`);
    const out = values.required('out');
    if (!hasExtension(out, '.onnx')) throw new UsageError(`--out "${out}" must end in .onnx`);
    let done = 0;
    try {
      await exportOnnx(modelSource(values, 'both'), out, {
        guidance: values.flag('gradual-cfg') ? 'gradual' : 'constant',
        signal,
        onProgress(state) {
          if (done === 0) progress.start(state.total, state.unit);
          progress.advance(state.done - done);
          done = state.done;
        },
      });
    } finally {
      progress.stop();
    }
    const inputs =
      'labels int32 [B] of 0 .. classes, B >= 1, noise float32 [B, N, V], cfg float32 [1], temperature float32 [1]';
    const outputs = 'tokens int32 [B, N], pixels float32 [B, 3, S, S]';
    return {
      lines: [`${out} (weights: ${out}.data)`, `inputs: ${inputs}`, `outputs: ${outputs}`],
      json: { out, weights: `${out}.data` },
    };
  },
};

import { type ExportedPort, exportOnnx } from '../export-onnx';
import { type Command, UsageError } from './command';
import { familiesOf } from './family-module';
import { hasExtension } from './files';
import { familyOptions, hubOptions, modelSource } from './model-options';
import { modelSettings } from './model-settings';
import { following } from './progress';
import { Values } from './values';

export const exportCommand: Command = {
  name: 'export',
  summary: 'write the whole generator, or a part of a model, as one ONNX model',
  usage: '(--model DIR | --tokenizer DIR [--ar DIR]) --out FILE.onnx [OPTIONS]',
  options: {
    ...familyOptions,
    part: {
      type: 'string',
      value: 'P',
      help: 'generator (default; not of all families), encoder, decoder, step; what else there is, an error says',
    },
    'gradual-cfg': { type: 'boolean', help: 'lower the guidance scale group by group' },
    out: { type: 'string', value: 'FILE', help: 'the .onnx file; its weights go beside it, into FILE.data' },
  },
  examples: [
    'export --model @detailflow/model-fashion-32 --out out/fashion.onnx',
    'export --tokenizer vae_ch160v4096z32.pth --part decoder --out out/var-decoder.onnx',
  ],
  async run(invocation) {
    const { positionals, signal, progress } = invocation;
    const values = new Values(invocation);
    if (positionals.length > 0) throw new UsageError(`"${positionals[0]}" is not expected here`);
    const out = values.required('out');
    if (!hasExtension(out, '.onnx')) throw new UsageError(`--out "${out}" must end in .onnx`);
    const part = values.text('part') ?? 'generator';
    const [settings, families] = [await modelSettings(values), await familiesOf(values)];
    const isWhole = part === 'generator';
    if (!isWhole && values.flag('gradual-cfg')) throw new UsageError('--gradual-cfg is for a generator');
    try {
      const { inputs, outputs } = await exportOnnx(modelSource(values, isWhole ? 'both' : 'tokenizer'), out, {
        ...{ part, settings, families, signal, hub: hubOptions(values) },
        guidance: values.flag('gradual-cfg') ? 'gradual' : 'constant',
        onProgress: following(progress),
      });
      const list = (ports: readonly ExportedPort[]) =>
        ports.map(({ name, dtype, shape }) => `${name} ${dtype} ${shape}`).join(', ');
      return {
        lines: [
          `${out} (weights: ${out}.data)`,
          `inputs: ${isWhole ? GENERATOR.inputs : list(inputs)}`,
          `outputs: ${isWhole ? GENERATOR.outputs : list(outputs)}`,
        ],
        json: { out, weights: `${out}.data`, part, inputs, outputs },
      };
    } finally {
      progress.stop();
    }
  },
};

const GENERATOR = {
  inputs:
    'labels int32 [B] of 0 .. classes, B >= 1, noise float32 [B, N, V], cfg float32 [1], temperature float32 [1]',
  outputs: 'tokens int32 [B, N], pixels float32 [B, 3, S, S]',
} as const;

import type { Weights } from '@detailflow/core';
import { type ModelSource, openModel } from '../model-source';
import { type Command, type Report, UsageError } from './command';
import { modelOptions, modelSource, namedFolder } from './model-options';
import { Values } from './values';

export const inspectCommand: Command = {
  name: 'inspect',
  summary: 'say what a model is, and check that its weights fit',
  usage: 'DIR | --tokenizer DIR [--ar DIR]',
  options: modelOptions,
  examples: ['inspect @detailflow/model-fashion-32', 'inspect --model @detailflow/model-fashion-32 --json'],
  async run(invocation) {
    const opened = await openModel(source(invocation), { signal: invocation.signal });
    try {
      const { kind, card, tokenizer, ar } = opened;
      const parts = { tokenizer: summary(tokenizer), ...(ar && { ar: summary(ar) }) };
      return {
        lines: [
          `${card ? `${card.name} (${card.license})` : 'official checkpoint'}`,
          ...Object.entries(parts).flatMap(([name, part]) => [
            `${name}: ${part.parameters.toLocaleString('en')} parameters in ${part.weights} tensors (${part.dtypes.join(', ')}), ${part.file}`,
            ...Object.entries(part.config).map(
              ([key, value]) => `  ${key}: ${typeof value === 'object' ? JSON.stringify(value) : value}`,
            ),
          ]),
        ],
        json: { kind, ...(card && { card }), ...parts },
      } satisfies Report;
    } finally {
      await opened.close();
    }
  },
};

function source(invocation: Parameters<Command['run']>[0]): ModelSource {
  const { positionals } = invocation;
  const values = new Values(invocation);
  if (positionals.length === 0) return modelSource(values, 'tokenizer');
  const named = ['model', 'tokenizer', 'ar'].some((name) => values.text(name) !== undefined);
  if (positionals.length > 1 || named) throw new UsageError('give one model');
  return namedFolder(positionals[0]);
}

function summary(part: { config: object; weights: Weights; file: string }) {
  const weights = [...part.weights.values()];
  return {
    file: part.file,
    config: part.config,
    weights: weights.length,
    parameters: weights.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0),
    dtypes: [...new Set(weights.map(({ dtype }) => dtype))],
  };
}

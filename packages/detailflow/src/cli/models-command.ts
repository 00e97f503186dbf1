import { releasedModels } from '../released-models';
import { type Command, UsageError } from './command';

export const modelsCommand: Command = {
  name: 'models',
  summary: 'list the released models that can be named',
  usage: '',
  options: {},
  examples: ['models', 'generate --model detailflow-16 --class 9 --out out/first.png'],
  async run({ positionals }) {
    if (positionals.length > 0) throw new UsageError('takes no argument');
    const rows = releasedModels.map(({ name, tokens, imageSize, bytes, license, tokenizer }) =>
      [
        name.padEnd(16),
        `${tokens} tokens`.padEnd(12),
        `${imageSize} pixels`.padEnd(12),
        `${(bytes / 1e9).toFixed(1)} GB`.padEnd(8),
        license.padEnd(12),
        tokenizer,
      ].join(''),
    );
    const where =
      'They are fetched when they are first used. HF_HOME says where to, HF_HUB_OFFLINE=1 keeps to what is there.';
    return { lines: [...rows, where], json: { models: releasedModels } };
  },
};

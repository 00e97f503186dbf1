import type { PlainTokenizerTrainer } from '../plain-tokenizer-trainer';
import type { TokenizerTrainer } from '../tokenizer-trainer';
import type { OpenedTokenizerTrainer } from './run-models';

/** A trainer as the stage of a run takes it. `close` frees the networks of its losses. */
export function runTokenizerTrainer(
  trainer: TokenizerTrainer | PlainTokenizerTrainer,
  { imageSize, close }: { readonly imageSize: number; readonly close: () => Promise<void> },
): OpenedTokenizerTrainer {
  return {
    get step() {
      return trainer.step;
    },
    get graphs() {
      return trainer.graphs;
    },
    imageSize,
    train: async (batch) => ({ ...(await trainer.train(batch)) }),
    snapshot: () => trainer.snapshot(),
    restore: (snapshot) => trainer.restore(snapshot),
    parameters: (kind) => trainer.parameters(kind),
    async close() {
      await close();
      await trainer.dispose();
    },
  };
}

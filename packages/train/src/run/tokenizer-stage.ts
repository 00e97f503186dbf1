import { imageValues, trainingView } from '@detailflow/data';
import { lossTerms } from '../losses/loss-networks';
import { TokenizerTrainer } from '../tokenizer-trainer';
import { centerOf, viewOf } from './data-views';
import { openLossNetworks } from './loss-networks';
import { runStage } from './run-stage';
import { kept, type StageContext } from './stage-context';
import { startingTokenizer } from './starting-parameters';
import { validateTokenizer } from './validate';
import { visitOrder } from './visit-order';

/** Trains the tokenizer of a run. @returns whether it is trained to the end */
export async function trainTokenizer(run: StageContext): Promise<boolean> {
  const { seed, checkpoints, validation, tokenizer, data } = run.config;
  const { model: config, recipe, batch } = tokenizer;
  const order = visitOrder(run.data.train.labels, { balance: data.balance, seed });
  const { lossNetworks: files = {} } = run.options;
  const { networks, close } = await openLossNetworks(run.config, files, run.backends[0]);
  const isFresh = (await run.folder.last('tokenizer')) === undefined;
  const parameters =
    isFresh && (await startingTokenizer(tokenizer, lossTerms(config, recipe, networks), run.options));
  const trainer = await TokenizerTrainer.create({
    config,
    recipe,
    backends: run.backends,
    seed,
    networks,
    ...(parameters && { parameters }),
  });
  const size = trainer.imageSize;
  try {
    const isDone = await runStage<Float32Array>({
      ...run.common(),
      stage: 'tokenizer',
      trainer: {
        get step() {
          return trainer.step;
        },
        get graphs() {
          return trainer.graphs;
        },
        train: async (batch) => ({ ...(await trainer.train(batch)) }),
        snapshot: () => trainer.snapshot(),
        restore: (snapshot) => trainer.restore(snapshot),
      },
      steps: recipe.schedule.steps,
      batchSize: batch,
      checkpoints,
      batch: async (step) => {
        const values = new Float32Array(batch * 3 * size * size);
        const indices = order.batch(step, batch);
        await Promise.all(
          indices.map(async (index, i) => {
            const view = { ...viewOf(data), size, seed, position: step * batch + i };
            const image = trainingView(await run.data.train.image(index), view);
            imageValues(image, size, values.subarray(i * 3 * size * size, (i + 1) * 3 * size * size));
          }),
        );
        return values;
      },
      score: ({ psnr }) => (psnr as Record<string, number> | undefined)?.[`${config.tokens}`],
      validation: {
        every: validation.every,
        run: async (step, signal) => {
          const parameters = await trainer.parameters(kept(recipe));
          const found = await validateTokenizer(run.backends[0], {
            ...{ config, parameters, data: centerOf(data), images: validation.images },
            ...{ dataset: run.data.heldOut, signal },
          });
          await run.savePicture('tokenizer', step, found.picture);
          return { psnr: found.psnr };
        },
      },
    });
    if (isDone) await run.write({ tokenizer: await trainer.parameters(kept(recipe)) });
    return isDone;
  } finally {
    await close();
    await trainer.dispose();
  }
}

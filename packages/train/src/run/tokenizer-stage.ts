import { imageValues, trainingView } from '@detailflow/data';
import { centerOf, viewOf } from './data-views';
import { runStage } from './run-stage';
import { kept, type StageContext } from './stage-context';
import { validateTokenizer } from './validate';
import { visitOrder } from './visit-order';

/** Trains the tokenizer of a run. @returns whether it is trained to the end */
export async function trainTokenizer(run: StageContext): Promise<boolean> {
  const { seed, checkpoints, validation, tokenizer, data } = run.config;
  const { recipe, batch } = tokenizer;
  const { tokenizer: model } = run.models;
  const order = visitOrder(run.data.train.labels, { balance: data.balance, seed });
  const trainer = await model.open(run);
  const size = trainer.imageSize;
  try {
    const isDone = await runStage<Float32Array>({
      ...run.common(),
      stage: 'tokenizer',
      trainer,
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
      score: ({ psnr }) => (psnr as Record<string, number> | undefined)?.[`${model.tokens}`],
      validation: {
        every: validation.every,
        run: async (step, signal) => {
          const parameters = await trainer.parameters(kept(recipe));
          const found = await validateTokenizer(model.createRestoring(run.backends[0], parameters), {
            ...{ model, data: centerOf(data), images: validation.images },
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
    await trainer.close();
  }
}

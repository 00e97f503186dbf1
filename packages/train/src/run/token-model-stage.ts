import type { TokenModelConfig } from '@detailflow/ar-model';
import { DetailFlowError } from '@detailflow/core';
import type { Arrays } from '../initialise';
import { type CodeBatch, TokenModelTrainer } from '../token-model-trainer';
import { type CodeSource, readBatch } from './code-batch';
import { CodeStore } from './code-store';
import { centerOf } from './data-views';
import { heldOutCodes } from './held-out-codes';
import { OfficialCodes } from './official-codes';
import { type PictureJudge, pictureJudge } from './picture-judge';
import { runStage } from './run-stage';
import { kept, type StageContext } from './stage-context';
import { startingTokenModel } from './starting-parameters';
import { sampleGrid } from './validate';
import { visitOrder } from './visit-order';

/** Trains the AR model of a run. @returns whether it is trained to the end */
export async function trainTokenModel(run: StageContext): Promise<boolean> {
  const { seed, checkpoints, validation, tokenModel, data } = run.config;
  const { recipe, batch } = tokenModel;
  const { labels: classLabels, classNames } = run.data.train;
  const config: TokenModelConfig = { ...tokenModel.model, classes: classNames.length };
  const { imageSize: size = run.config.tokenizer.model.imageSize } = tokenModel;
  const parameters = await run.tokenizer();
  const { source: store, origin, labels = classLabels } = await codesOf(run, { size, config, parameters });
  await run.folder.bind('ar', origin);
  const order = visitOrder(labels, { balance: data.balance, seed: seed + 1 });
  const isFresh = (await run.folder.last('ar')) === undefined;
  const start = isFresh && (await startingTokenModel(config, run.options));
  const trainer = await TokenModelTrainer.create({
    ...{ config, recipe, backends: run.backends, seed },
    ...(start && { parameters: start }),
  });
  const tokenizer = run.createTokenizer(run.backends[0], parameters);
  let judge: PictureJudge | undefined;
  try {
    if (validation.generate > 0) {
      judge = await pictureJudge(run, { size, count: validation.generate, classes: classNames.length });
    }
    const heldOut = await heldOutCodes(tokenizer, {
      ...{ dataset: run.data.heldOut, view: centerOf(data), images: validation.images },
      ...{ microBatch: recipe.microBatch, signal: run.options.signal },
      seen: { size, tokens: config.tokens },
    });
    const isDone = await runStage<CodeBatch>({
      ...run.common(),
      stage: 'ar',
      trainer: {
        get step() {
          return trainer.step;
        },
        train: async (codes) => {
          const { positionLoss, ...report } = await trainer.train(codes);
          return {
            ...report,
            perplexity: Math.exp(report.loss),
            positionLoss: [...positionLoss].map(round),
          };
        },
        snapshot: () => trainer.snapshot(),
        restore: (snapshot) => trainer.restore(snapshot),
      },
      steps: recipe.schedule.steps,
      batchSize: batch,
      checkpoints,
      batch: async (step) => readBatch(store, { labels, order, step, batch, seed, views: data.views }),
      score: ({ heldOutLoss }) => (heldOutLoss === undefined ? undefined : -(heldOutLoss as number)),
      validation: {
        every: validation.every,
        run: async (step, signal) => {
          const { loss, positionLoss } = await trainer.evaluate(heldOut, { signal });
          const found = await trainer.parameters(kept(recipe));
          const cfg = 1.5;
          const options = { tokenizer, config, parameters: found, cfg, signal };
          await run.savePicture('ar', step, await sampleGrid(run.backends[0], options));
          return {
            heldOutLoss: loss,
            heldOutPerplexity: Math.exp(loss),
            heldOutPositionLoss: [...positionLoss].map(round),
            ...(await judge?.frechet({ config, parameters: found, tokenizer, signal })),
          };
        },
      },
    });
    if (isDone) {
      const ar = { config, parameters: await trainer.parameters(kept(recipe)) };
      await run.write({ tokenizer: parameters, ar });
    }
    return isDone;
  } finally {
    await judge?.dispose();
    await tokenizer.dispose();
    await trainer.dispose();
    await store.close();
  }
}

/** The codes that an AR model learns: those that were given, or those of the run. */
async function codesOf(
  run: StageContext,
  { size, config, parameters }: { size: number; config: TokenModelConfig; parameters: Arrays },
): Promise<{ source: CodeSource; origin: string; labels?: Int32Array }> {
  const { codes } = run.options;
  if (codes) {
    const { model: tokenizer } = run.config.tokenizer;
    const { tokens, classes } = config;
    const source = await OfficialCodes.open(codes, { tokenizer, size, tokens, classes });
    return { source, origin: source.origin, labels: source.labels };
  }
  const source = await CodeStore.open(await run.codesFolder());
  const { origin } = source.header;
  if (origin === run.codesOrigin(parameters)) return { source, origin };
  await source.close();
  throw new DetailFlowError(
    'config',
    'the codes are of another tokenizer, of other images, or made with other settings; remove them and make them again',
    { file: await run.codesFolder() },
  );
}

const round = (x: number) => Math.round(1e5 * x) / 1e5;

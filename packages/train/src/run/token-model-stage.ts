import { DetailFlowError } from '@detailflow/core';
import { differentClass } from '@detailflow/eval';
import type { Arrays } from '../initialise';
import type { CodeBatch } from '../token-model-trainer';
import { type CodeSource, readBatch } from './code-batch';
import { CodeStore } from './code-store';
import { centerOf } from './data-views';
import { goingOn } from './earlier-training';
import { heldOutCodes } from './held-out-codes';
import { detailflowTokenizer, OfficialCodes } from './official-codes';
import { type PictureJudge, pictureJudge } from './picture-judge';
import type { RunTokenModel } from './run-models';
import { runStage } from './run-stage';
import { kept, type StageContext } from './stage-context';
import { startingParameters } from './starting-parameters';
import { sampleGrid } from './validate';
import { visitOrder } from './visit-order';

/** Guidance of the pictures that are looked at. */
const CFG = 1.5;

/** Trains the AR model of a run. @returns whether it is trained to the end */
export async function trainTokenModel(run: StageContext): Promise<boolean> {
  const { seed, checkpoints, validation, tokenModel, data } = run.config;
  const { recipe, batch } = tokenModel;
  const { labels: classLabels, classNames } = run.data.train;
  const model = run.models.tokenModel(classNames.length);
  const { imageSize: size, tokens, config, specs, ignored } = model;
  const parameters = await run.tokenizer();
  const { source: store, origin, labels = classLabels } = await codesOf(run, model, parameters);
  await run.folder.bind('ar', origin);
  const order = visitOrder(labels, { balance: data.balance, seed: seed + 1 });
  const isFresh = (await run.folder.last('ar')) === undefined;
  const start = isFresh
    ? await startingParameters('ar', run.options, { config, specs, ignored, optional: [] })
    : undefined;
  if (start) sayOtherClasses(run, classNames);
  const trainer = await model.createTrainer({ run, tokenizer: parameters, parameters: start });
  const earlier = isFresh ? run.options.initial?.ar : undefined;
  if (earlier?.training) {
    const { schedule, optimiser } = recipe;
    const snapshot = await goingOn(await trainer.snapshot(), earlier.training, {
      ...{ file: earlier.file, section: 'tokenModel', steps: schedule.steps, optimiser },
      onNotice: run.options.onNotice,
    });
    await trainer.restore(snapshot);
  }
  const [backend] = run.backends;
  const tokenizer = run.models.tokenizer.create(backend, parameters);
  const drawing = model.createTokenizer(backend, parameters);
  let judge: PictureJudge | undefined;
  try {
    if (validation.generate > 0) {
      judge = await pictureJudge(run, { size, count: validation.generate, classes: classNames.length });
    }
    const heldOut = await heldOutCodes(tokenizer, {
      ...{ dataset: run.data.heldOut, view: centerOf(data), images: validation.images },
      ...{ microBatch: recipe.microBatch, signal: run.options.signal },
      seen: { size, tokens },
    });
    const isDone = await runStage<CodeBatch>({
      ...run.common(),
      stage: 'ar',
      trainer: {
        get step() {
          return trainer.step;
        },
        get graphs() {
          return trainer.graphs;
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
          const drawn = model.create(backend, found, parameters);
          const pictures = { model: drawn, tokenizer: drawing, signal };
          const judged = await (async () => {
            await run.savePicture('ar', step, await sampleGrid({ ...pictures, cfg: CFG }));
            return judge?.frechet(pictures);
          })().finally(() => drawn.dispose());
          return {
            heldOutLoss: loss,
            heldOutPerplexity: Math.exp(loss),
            heldOutPositionLoss: [...positionLoss].map(round),
            ...judged,
          };
        },
      },
    });
    if (isDone) {
      await run.write({ tokenizer: parameters, ar: await trainer.parameters(kept(recipe)) });
    }
    return isDone;
  } finally {
    await judge?.dispose();
    await tokenizer.dispose();
    await drawing.dispose();
    await trainer.dispose();
    await store.close();
  }
}

/** The codes that an AR model learns: those that were given, or those of the run. */
async function codesOf(
  run: StageContext,
  { imageSize: size, tokens }: RunTokenModel,
  parameters: Arrays,
): Promise<{ source: CodeSource; origin: string; labels?: Int32Array }> {
  const { codes } = run.options;
  if (codes) {
    const classes = run.data.train.classNames.length;
    const tokenizer = detailflowTokenizer(run.config, 'codes');
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

/** An AR model to begin with knows classes by their numbers, which may be others here. */
function sayOtherClasses({ options }: StageContext, classNames: readonly string[]): void {
  const { ar } = options.initial ?? {};
  const different = differentClass(
    { of: 'the model to begin with', names: ar?.classNames },
    { of: 'these images', names: classNames },
  );
  if (different === undefined) return;
  const begins = 'each class begins with what was learned of the class of its number';
  options.onNotice?.(`${ar?.file ?? 'AR model'}: ${different}: ${begins}`);
}

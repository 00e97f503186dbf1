import { availableParallelism } from 'node:os';
import { type Backend, checkOptions, DetailFlowError } from '@detailflow/core';
import {
  holdOutRecord,
  requireSameHeldOut,
  type SkippedImage,
  skipUnreadable,
  withSkipped,
} from '@detailflow/data';
import { type OpenedDataset, openDataset } from '@detailflow/data/node';
import { readableImages } from '@detailflow/eval';
import { makeCodes } from './codes-stage';
import { writeDataUse } from './data-use';
import { openingOf } from './data-views';
import { listHeldOut } from './held-out-list';
import { modelsOf } from './models-of';
import { requireJudge } from './picture-judge';
import { writeReport } from './report';
import { RunFolder } from './run-folder';
import { requireSameImages } from './run-images';
import type { RunModels } from './run-models';
import { StageContext } from './stage-context';
import { requireConfig, requireFitting } from './starting-parameters';
import { trainTokenModel } from './token-model-stage';
import { trainTokenizer } from './tokenizer-stage';
import type { TrainingPart, TrainingStage, TrainOptions, TrainResult } from './train-options';
import type { TrainedTokenizer } from './trained-tokenizer';

/**
 * Trains in a folder: `config.json`, `tokenizer/` and `ar/` with checkpoints and log.jsonl, `codes/`, `report.html`, and
 * `bundle/` with the model, and `official/` with the same in the layout of the official training scripts.
 * @throws DetailFlowError as {@link RunFolder.open}, {@link runStage} and `openDataset`; the reason of the signal, after
 *   saving a checkpoint
 * @see https://detailflow.github.io/detailflow-ts/guide/train.html
 */
export async function train(options: TrainOptions): Promise<TrainResult> {
  checkOptions('train', options, {
    part: true,
    config: true,
    family: true,
    data: true,
    out: true,
    tokenizer: true,
    initial: true,
    ...{ codesElsewhere: true, codesShard: true },
    ...{ features: true, codes: true, saveCodes: true },
    lossNetworks: true,
    resume: true,
    stopAfter: true,
    createBackend: true,
    signal: true,
    onProgress: true,
    onSkip: true,
    ...{ onData: true, onSaved: true, onCompared: true, onNotice: true },
  });
  const { config, part } = options;
  const models = modelsOf(config, options.family);
  const isLater = part === 'codes' || part === 'ar';
  const trainsTokenizer = part === 'tokenizer' || (part === 'all' && options.tokenizer === undefined);
  if (options.tokenizer) checkTokenizer(options.tokenizer, models, part);
  if ('mixture' in config.tokenizer.model && config.tokenizer.model.mixture && part !== 'tokenizer') {
    throw new DetailFlowError(
      'config',
      'its tokens are mixtures of codes, which have no numbers, so there are no codes and no AR model: train the tokenizer alone',
      { entry: 'tokenizer.model.mixture' },
    );
  }
  requireUse(options);
  if (config.validation.generate > 0 && (part === 'ar' || part === 'all')) requireJudge(options.features);
  const folder = await RunFolder.open(options.out, {
    settings: { ...config, trainedOn: options.data },
    resume: options.resume === true || isLater,
    lock: { onNotice: options.onNotice, signal: options.signal },
  });
  const started = performance.now();
  const { stopAfter = Number.POSITIVE_INFINITY } = options;
  const isTimeUp = () => performance.now() - started >= stopAfter;
  const signal = options.signal ? AbortSignal.any([options.signal, folder.lost]) : folder.lost;
  const backends: Backend[] = [];
  let opened: OpenedDataset | undefined;
  try {
    const skipped: SkippedImage[] = [];
    const told = new Set<string>();
    const onSkip = (image: SkippedImage) => {
      const text = JSON.stringify(image);
      if (told.has(text)) return; // by several machines
      told.add(text);
      skipped.push(image);
      options.onSkip?.(image);
    };
    opened = await openDataset(options.data, openingOf(config));
    options.onData?.(opened.use);
    const { onCompared: onProgress } = options;
    const images = await requireSameImages(folder, opened, { signal, onProgress });
    if (images.shared > 0) {
      options.onNotice?.(
        `${images.shared} of ${opened.heldOut.labels.length} held-out images are among the training images, too, byte for byte: figures of ` +
          'held-out images count what was learned by heart; remove the copies, or hold them out together (data.groupBy)',
      );
    }
    const record = await holdOutRecord(opened);
    requireSameHeldOut(record, [options.tokenizer, options.initial?.tokenizer, options.initial?.ar]);
    // What is refused leaves a run as it was.
    await folder.keepSettings();
    await writeDataUse(folder, opened.use);
    await listHeldOut(folder, opened, record);
    const cores = availableParallelism();
    const replicas = Math.min(config.replicas, cores);
    if (replicas < config.replicas) {
      options.onNotice?.(`${replicas} of ${config.replicas} replicas are made: there are no more cores`);
    }
    // What is measured is every image once: none stands in for one that cannot be read.
    const heldOut = await readableImages(opened.heldOut, { signal });
    for (const image of heldOut.skipped) onSkip(image);
    const threads = Math.floor(cores / replicas);
    for (let i = 0; i < replicas; i++) backends.push(await options.createBackend({ threads }));
    const run = new StageContext(
      { ...options, signal, isTimeUp, onSkip },
      folder,
      backends,
      {
        train: await skipUnreadable(opened.train, onSkip),
        heldOut: heldOut.dataset,
        ...{ images, record },
      },
      models,
    );
    // What the AR model is to begin with is looked at before hours of training the tokenizer.
    if (part === 'all' && (await folder.last('ar')) === undefined) {
      const later = models.tokenModel(opened.train.classNames.length);
      requireFitting('ar', options, { ...later, optional: [] });
    }
    const stages = {
      ...(trainsTokenizer && { tokenizer: () => trainTokenizer(run) }),
      ...((part === 'codes' || (part === 'all' && !options.codes)) && { codes: () => makeCodes(run) }),
      ...((part === 'ar' || part === 'all') && { ar: () => trainTokenModel(run) }),
    };
    let stopped: TrainResult['stopped'];
    for (const [stage, make] of Object.entries(stages)) {
      if (!isTimeUp() && (await make())) continue;
      stopped = { stage: stage as TrainingStage };
      break;
    }
    const data = withSkipped(opened.use, skipped);
    await writeDataUse(folder, data);
    const report = await writeReport(folder);
    return stopped
      ? { report, stopped, skipped, data }
      : { bundle: await folder.place('bundle'), report, skipped, data };
  } finally {
    for (const backend of backends) await backend.close();
    for (const part of opened ? [opened.train, opened.heldOut] : []) await part.close?.();
    await folder.close();
  }
}

/** @throws DetailFlowError `invalid-argument` for an option that this part of a training would not look at */
function requireUse({ part, config, codes, saveCodes, codesShard, features }: TrainOptions): void {
  const learns = part === 'ar' || part === 'all';
  const makesCodes = part === 'codes' || (part === 'all' && !codes);
  const useless = (option: string, reason: string) =>
    new DetailFlowError('invalid-argument', `${option} is of no use here: ${reason}`);
  if (codes && !learns) throw useless('codes', 'they are what an AR model learns (ar, all)');
  if (saveCodes !== undefined && !makesCodes) throw useless('saveCodes', 'no codes are made (codes, all)');
  if (codesShard !== undefined && !makesCodes) throw useless('codesShard', 'no codes are made (codes, all)');
  if (features !== undefined && !learns)
    throw useless('features', 'pictures are drawn while an AR model learns (ar, all)');
  if (features !== undefined && config.validation.generate === 0) {
    throw useless('features', 'it judges the pictures of validation.generate, which is 0');
  }
}

/** @throws DetailFlowError `config` when a tokenizer that is given is not the one of the settings */
function checkTokenizer(given: TrainedTokenizer, { tokenizer }: RunModels, part: TrainingPart): void {
  if (part === 'tokenizer') {
    throw new DetailFlowError('config', 'a tokenizer was given, so there is none to train');
  }
  requireConfig(given.config, tokenizer.config, 'tokenizer');
}

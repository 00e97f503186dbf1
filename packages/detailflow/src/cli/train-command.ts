import path from 'node:path';
import { DetailFlowError } from '@detailflow/core';
import { useLines } from '@detailflow/data';
import type { ShardClient } from '@detailflow/queue';
import {
  type CodesElsewhere,
  type CodesWork,
  isNumbered,
  numberedFolder,
  type TrainedClassifier,
  type TrainingPart,
  train,
  trainClassifier,
} from '@detailflow/train/node';
import { type Command, InterruptedError, type Report, UsageError } from './command';
import { openDevice } from './device-backend';
import { durationOf } from './duration';
import { wasInterrupted } from './interruption';
import { namedFolder } from './model-options';
import { openInitial, openTrained } from './open-initial';
import { codesElsewhere } from './queue/codes-task';
import { sharedPlace, stampOf } from './queue/model-identity';
import { leftLines, machineLines, openQueue, workOptions } from './queue/queue-options';
import { trainBundle } from './train-bundle';
import { presetNames, trainingFamilies } from './training-families';
import { TrainingInterruption } from './training-interruption';
import { trainingProgress } from './training-progress';
import { trainingSettings } from './training-settings';
import { Values } from './values';
import { withoutPasswords } from './without-passwords';

const parts: readonly TrainingPart[] = ['tokenizer', 'codes', 'ar', 'all'];

export const trainCommand: Command = {
  name: 'train',
  summary: 'train a tokenizer and an AR model on pictures of your own',
  usage:
    '(classifier | tokenizer | codes | ar | all) --config FILE|PRESET [--set NAME=VALUE] --data SOURCE --out DIR [--resume]\n       detailflow train bundle --run DIR --out DIR [--step N]',
  options: {
    config: {
      type: 'string',
      value: 'C',
      help: `a .json or .yaml file, or a preset: ${presetNames.join(', ')}`,
    },
    family: {
      type: 'string',
      value: 'F',
      help: `what is trained: detailflow (default), ${trainingFamilies.map(({ name }) => name).join(', ')}; a preset says it itself`,
    },
    set: {
      type: 'string',
      value: 'NAME=VALUE',
      repeatable: true,
      help: 'a single setting over those of --config, such as tokenizer.steps=2000; may be given many times',
    },
    data: {
      type: 'string',
      source: 'files',
      value: 'SOURCE',
      help: 'folder with a folder of images for each class, IDX or CIFAR files, a .npz file, or shapes:N',
    },
    out: {
      type: 'string',
      value: 'DIR',
      help: 'folder of the run: checkpoints, logs, report.html, bundle; runs/%03d-mine numbers itself',
    },
    tokenizer: {
      type: 'string',
      source: 'model',
      value: 'DIR',
      help: 'model whose tokenizer to use, instead of training one, or the folder of an official tokenizer',
    },
    init: {
      type: 'string',
      value: 'LIST',
      repeatable: true,
      help: 'what training begins with: a model (both halves), or files of weights (.pt, .safetensors), one a half; also hf: and https:',
    },
    'init-key': {
      type: 'string',
      value: 'K',
      help: 'model or ema: which weights of a .pt file --init takes (default: model of a tokenizer, ema of an AR model)',
    },
    'tokenizer-key': {
      type: 'string',
      value: 'KEY',
      help: 'model or ema: which weights of an official --tokenizer (default: model)',
    },
    'with-optimiser': {
      type: 'boolean',
      help: '--init: go on with step, optimiser and discriminator of a .pt file of an official training',
    },
    lenient: { type: 'boolean', help: '--init: take what has the same name and shape, and draw the rest' },
    classifier: {
      type: 'string',
      source: 'files',
      value: 'FILE',
      help: 'for a perceptual loss by a classifier; default: classifier.safetensors in --out',
    },
    vgg: {
      type: 'string',
      source: 'files',
      value: 'FILE',
      help: 'VGG16 of torchvision, for the perceptual loss',
    },
    lpips: {
      type: 'string',
      source: 'files',
      value: 'FILE',
      help: 'heads of LPIPS, for the perceptual loss',
    },
    dino: {
      type: 'string',
      source: 'files',
      value: 'FILE',
      help: "ViT with timm's names, such as DINO's ViT-S/16: discriminator dino, perceptual network vit",
    },
    alignment: {
      type: 'string',
      source: 'files',
      value: 'FILE',
      help: 'feature network that the first token must tell: as --features of eval, or SigLIP2',
    },
    codes: {
      type: 'string',
      value: 'LIST',
      repeatable: true,
      help: 'folders of codes as the official script writes them, to learn instead of making codes',
    },
    'save-codes': { type: 'string', value: 'DIR', help: 'also write the codes as the official script does' },
    siglip: {
      type: 'string',
      source: 'files',
      value: 'DIR',
      help: 'google/siglip2-* (config.json, model.safetensors), for REPA or a perceptual loss',
    },
    features: {
      type: 'string',
      source: 'files',
      value: 'FILE',
      help: 'network that judges drawn pictures (validation.generate), as for eval',
    },
    resume: {
      type: 'boolean',
      help: 'go on from the last checkpoints; steps, schedule, checkpoints and validation may have changed',
    },
    'stop-after': { type: 'string', value: 'T', help: 'save and stop after so long: 90s, 20m, 2h or 1h30m' },
    run: { type: 'string', value: 'DIR', help: 'bundle: the run whose checkpoint becomes a model' },
    step: { type: 'string', value: 'N', help: 'bundle: the step of the checkpoint (default: the last)' },
    stage: { type: 'string', value: 'S', help: 'bundle: tokenizer or ar (default: ar where there is one)' },
    overwrite: { type: 'boolean', help: 'bundle: replace a bundle that is there' },
    'codes-shard': {
      type: 'string',
      value: 'N',
      help: 'images of a file of codes (default 4096): smaller ones spread over more machines',
    },
    device: { type: 'string', value: 'D', help: 'cpu (default), cuda or webgpu' },
    ...workOptions,
  },
  examples: [
    'train all --config tiny-32 --data shapes:20000 --out runs/shapes',
    'train all --config tiny-32 --data fashion-mnist/ --out runs/fashion --resume',
    'train all --config tiny-32 --data fashion-mnist/ --out runs/ar --tokenizer runs/fashion/bundle',
    'train classifier --config mine.yaml --data pictures/ --out runs/mine',
    'train all --config mine.yaml --data pictures/ --out runs/mine --resume --stop-after 2h',
    'train all --init @detailflow/model-fashion-32 --data pictures/ --out runs/mine --set tokenModel.steps=3000',
    'train codes --config mine.yaml --data /mnt/shared/pictures --out /mnt/shared/run --queue redis://10.0.0.1',
    'train tokenizer --config mine.yaml --data pictures/ --out runs/%03d-on --init 0040000.pt --with-optimiser',
    'train bundle --run runs/mine --step 4000 --out model/',
    'train tokenizer --config mine.yaml --data pictures/ --out runs/mine',
    'train all --family llamagen --config llamagen-32 --data fashion-mnist/ --out runs/llamagen',
  ],
  async run(invocation) {
    const { positionals, signal } = invocation;
    const values = new Values(invocation);
    const [part, ...others] = positionals;
    const isClassifier = part === 'classifier';
    const isBundle = part === 'bundle';
    const misplaced = Object.keys(invocation.values).find(
      (name) => !shared.includes(name) && isBundle !== ofBundle.includes(name),
    );
    if (misplaced !== undefined && (isBundle || isClassifier || parts.includes(part as TrainingPart))) {
      const other = isBundle ? 'a training' : 'train bundle';
      throw new UsageError(`--${misplaced} is for ${other}, not for train ${part}`);
    }
    if (isBundle && others.length === 0) return trainBundle(values, signal);
    if (!(isClassifier || parts.includes(part as TrainingPart)) || others.length > 0) {
      throw new UsageError(`say what to train: one of classifier, ${parts.join(', ')}, bundle`);
    }
    const unfit = isClassifier && notOfClassifier.find((name) => invocation.values[name] !== undefined);
    if (unfit) {
      throw new UsageError(
        `--${unfit} is not for train classifier, which is done in minutes and saved at the end`,
      );
    }
    const device = values.choice('device', ['cpu', 'cuda', 'webgpu'] as const) ?? 'cpu';
    const progress = trainingProgress(process.stderr, invocation.values.json === true);
    const createBackend = ({ threads }: { threads: number }) => openDevice({ device, threads });
    const [data, given] = [values.required('data'), values.required('out')];
    const sources = values.text('init')?.split(',');
    const key = values.choice('init-key', ['model', 'ema'] as const);
    const withOptimiser = values.flag('with-optimiser');
    const reading = (['init-key', 'lenient', 'with-optimiser'] as const).filter(
      (name) => invocation.values[name] !== undefined,
    );
    if (sources === undefined && reading.length > 0) {
      throw new UsageError(`--${reading[0]} says how --init is read: give that, too`);
    }
    if (withOptimiser && reading.length > 1) {
      throw new UsageError(`--with-optimiser goes on with a whole training: leave out --${reading[0]}`);
    }
    const known = values.text('config') === undefined ? undefined : await trainingSettings(values);
    const isOfFamily = known?.family !== undefined;
    if (withOptimiser && isOfFamily) {
      throw new UsageError(
        '--with-optimiser is for the models of DetailFlow, not for those of other families',
      );
    }
    const initial = sources && (await openInitial(sources, { key, signal, isOfFamily, withOptimiser }));
    const settings =
      known ??
      (await trainingSettings(values, initial).catch(async (error) => {
        await initial?.close();
        throw error;
      }));
    const source = values.text('tokenizer');
    const tokenizerKey = values.choice('tokenizer-key', ['model', 'ema'] as const);
    if (tokenizerKey !== undefined && (source === undefined || values.text('queue') !== undefined)) {
      throw new UsageError(
        source === undefined
          ? '--tokenizer-key says which weights of --tokenizer are read: give that, too'
          : '--tokenizer-key is not for --queue: "detailflow convert --tokenizer-key" makes a bundle of them that workers can read',
      );
    }
    if (values.text('queue') !== undefined && part !== 'codes') {
      throw new UsageError(`--queue is for train codes, not for train ${part}`);
    }
    const out = await runFolder(given, {
      newest: values.flag('resume') || part === 'codes' || part === 'ar',
      isQuiet: invocation.values.json === true,
    });
    const classifier = values.text('classifier') ?? path.join(out, 'classifier.safetensors');
    if (isClassifier) {
      try {
        return classifierReport(
          await trainClassifier({
            ...{ ...settings, data, out: classifier, createBackend, signal },
            onProgress: progress.show,
          }),
        );
      } catch (error) {
        if (!wasInterrupted(error, signal)) throw error;
        const said = ['nothing of the classifier was saved: it is written at the end of its training'];
        throw new InterruptedError(said, { cause: error });
      } finally {
        await initial?.close();
        progress.end();
      }
    }
    const tokenizer =
      source === undefined ? undefined : await openTrained(source, { isOfFamily, tokenizerKey, signal });
    const queue = await openQueue(invocation, values);
    const stopAfter = values.text('stop-after');
    // Before codes are made, the tokenizer is in the bundle of the run.
    const model = source === undefined ? path.join(out, 'bundle') : namedFolder(source);
    const stamp = queue && (await stampOf(model));
    const far = (work: CodesWork): CodesElsewhere =>
      codesElsewhere(queue as ShardClient, work, {
        places: {
          model: sharedPlace((invocation.given.tokenizer as string) ?? model),
          data: sharedPlace(data),
        },
        ...{ stamp: stamp as string, title: `codes of ${data}` },
      });
    const args = process.argv.slice(2).map((arg) => {
      const named = arg === given ? out : arg === `--out=${given}` ? `--out=${out}` : arg;
      return withoutPasswords(named);
    });
    const interruption = new TrainingInterruption(args);
    const announce = () => {
      progress.end();
      process.stderr.write(`${interruption.atOnce}\n`);
    };
    signal.addEventListener('abort', announce);
    const started = performance.now();
    try {
      const result = await train({
        part: part as TrainingPart,
        ...settings,
        ...{ data, out, createBackend },
        tokenizer: tokenizer?.tokenizer,
        ...(initial && {
          initial: { tokenizer: initial.tokenizer, ar: initial.ar, isLenient: values.flag('lenient') },
        }),
        features: values.text('features'),
        codes: values.text('codes')?.split(','),
        saveCodes: values.text('save-codes'),
        codesShard: values.whole('codes-shard', { least: 1, most: 1_000_000 }),
        codesElsewhere: queue && far,
        lossNetworks: {
          classifier,
          vgg: values.text('vgg'),
          lpips: values.text('lpips'),
          alignment: values.text('alignment'),
          siglip: values.text('siglip'),
          dino: values.text('dino'),
        },
        resume: values.flag('resume'),
        ...(stopAfter !== undefined && { stopAfter: durationOf(stopAfter) }),
        signal,
        onData: progress.data,
        onProgress: (state) => {
          interruption.onProgress(state);
          if (!signal.aborted) progress.show(state);
        },
        onCompared: (done, total) => progress.show({ stage: 'images', done, total }),
        onSaved: (saved) => interruption.onSaved(saved),
        onNotice: (message) => process.stderr.write(`${message}\n`),
      });
      const seconds = (performance.now() - started) / 1000;
      progress.end();
      const { stopped, bundle: made } = result;
      const done = stopped
        ? `stopped after ${seconds.toFixed(0)} s in the ${stopped.stage} stage, and saved; the same command with --resume goes on`
        : `trained in ${seconds.toFixed(0)} s: ${made}`;
      return {
        lines: [
          ...useLines(result.data),
          done,
          `how it went: ${result.report}`,
          ...(queue ? machineLines(queue) : []),
        ],
        json: { ...result, seconds, ...(queue && { machines: queue.machines }) },
      };
    } catch (error) {
      if (!wasInterrupted(error, signal)) throw error;
      const said = [...interruption.afterwards(out), ...(await leftLines(queue, values))];
      throw new InterruptedError(said, { cause: error });
    } finally {
      await queue?.close();
      signal.removeEventListener('abort', announce);
      await tokenizer?.close();
      await initial?.close();
      progress.end();
    }
  },
};

/** The folder of the run; a number in its name is looked up, or the next one. */
async function runFolder(
  out: string,
  { newest, isQuiet }: { readonly newest: boolean; readonly isQuiet: boolean },
): Promise<string> {
  if (!isNumbered(out)) return out;
  const folder = await numberedFolder(out, { newest }).catch((error) => {
    const isMisused = DetailFlowError.isInstance(error) && error.code === 'invalid-argument';
    throw isMisused ? new UsageError(`--out ${error.message}`) : error;
  });
  if (!isQuiet) process.stderr.write(`the run is in ${folder}\n`);
  return folder;
}

/** Options of `train bundle` alone, and those that it has together with the others. */
const ofBundle = ['run', 'step', 'stage', 'overwrite'];
const shared = ['out', 'tokenizer', 'json', 'help'];

/** Options of the other parts: a classifier has no checkpoints. */
const notOfClassifier = [
  ...['resume', 'stop-after', 'tokenizer', 'codes', 'save-codes', 'codes-shard', 'features'],
  ...['vgg', 'lpips', 'dino', 'alignment', 'siglip'],
];

function classifierReport(found: TrainedClassifier): Report {
  const { file, accuracy, heldOut, byClass, skipped } = found;
  const classes = Object.entries(byClass).map(([name, [right, all]]) => `  ${name}: ${right} of ${all}`);
  return {
    lines: [
      ...(skipped.length > 0 ? [`${skipped.length} images could not be read`] : []),
      `names the class of ${(100 * accuracy).toFixed(1)} % of ${heldOut} held-out images: ${file}`,
      ...classes,
    ],
    json: { ...found },
  };
}

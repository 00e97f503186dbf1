import path from 'node:path';
import { createNodeBackend } from '@detailflow/backend-node';
import { readConfig } from '@detailflow/checkpoint/node';
import { parseTrainingConfig, type TrainingConfig, trainingPresets } from '@detailflow/train';
import { type TrainedClassifier, type TrainingPart, train, trainClassifier } from '@detailflow/train/node';
import { openModel } from '../model-source';
import { type Command, type Report, UsageError } from './command';
import { modelFolder } from './model-folder';
import { trainingProgress } from './training-progress';
import { Values } from './values';

const parts: readonly TrainingPart[] = ['tokenizer', 'codes', 'ar', 'all'];

export const trainCommand: Command = {
  name: 'train',
  summary: 'train a tokenizer and an AR model on pictures of your own',
  usage: '(classifier | tokenizer | codes | ar | all) --config FILE|PRESET --data SOURCE --out DIR [--resume]',
  options: {
    config: {
      type: 'string',
      value: 'C',
      help: `a .json or .yaml file, or a preset: ${Object.keys(trainingPresets).join(', ')}`,
    },
    data: {
      type: 'string',
      value: 'SOURCE',
      help: 'folder with a folder of images for each class, IDX or CIFAR files, a .npz file, or shapes:N',
    },
    out: { type: 'string', value: 'DIR', help: 'folder of the run: checkpoints, logs, report.html, bundle' },
    tokenizer: {
      type: 'string',
      value: 'DIR',
      help: 'model whose tokenizer to use, instead of training one',
    },
    init: {
      type: 'string',
      value: 'DIR',
      help: 'model whose tokenizer training begins with, instead of from nothing',
    },
    classifier: {
      type: 'string',
      value: 'FILE',
      help: 'for a perceptual loss by a classifier; default: classifier.safetensors in --out',
    },
    vgg: { type: 'string', value: 'FILE', help: 'VGG16 of torchvision, for the perceptual loss' },
    lpips: { type: 'string', value: 'FILE', help: 'heads of LPIPS, for the perceptual loss' },
    alignment: { type: 'string', value: 'FILE', help: 'feature network that the first token must tell' },
    resume: { type: 'boolean', help: 'go on from the last checkpoints' },
    device: { type: 'string', value: 'D', help: 'cpu (default), cuda or webgpu' },
  },
  examples: [
    'train all --config tiny-32 --data shapes:20000 --out runs/shapes',
    'train all --config tiny-32 --data fashion-mnist/ --out runs/fashion --resume',
    'train all --config tiny-32 --data fashion-mnist/ --out runs/ar --tokenizer runs/fashion/bundle',
    'train classifier --config mine.yaml --data pictures/ --out runs/mine',
    'train tokenizer --config mine.yaml --data pictures/ --out runs/mine',
  ],
  async run(invocation) {
    const { positionals, signal } = invocation;
    const values = new Values(invocation);
    const [part, ...others] = positionals;
    const isClassifier = part === 'classifier';
    if (!(isClassifier || parts.includes(part as TrainingPart)) || others.length > 0) {
      throw new UsageError(`say what to train: one of classifier, ${parts.join(', ')}`);
    }
    const config = await openConfig(values.required('config'));
    const device = values.choice('device', ['cpu', 'cuda', 'webgpu'] as const) ?? 'cpu';
    const progress = trainingProgress(process.stderr, invocation.values.json === true);
    const createBackend = ({ threads }: { threads: number }) => createNodeBackend({ device, threads });
    const [data, out] = [values.required('data'), values.required('out')];
    const classifier = values.text('classifier') ?? path.join(out, 'classifier.safetensors');
    if (isClassifier) {
      const found = await trainClassifier({
        ...{ config, data, out: classifier, createBackend, signal },
        onProgress: progress.show,
      });
      progress.end();
      return classifierReport(found);
    }
    const source = values.text('tokenizer');
    const tokenizer = source === undefined ? undefined : await openModel(modelFolder(source), { signal });
    const first = values.text('init');
    const initial = first === undefined ? undefined : await openModel(modelFolder(first), { signal });
    const started = performance.now();
    try {
      const result = await train({
        part: part as TrainingPart,
        config,
        ...{ data, out, createBackend },
        tokenizer: tokenizer?.tokenizer,
        initial: initial?.tokenizer,
        lossNetworks: {
          classifier,
          vgg: values.text('vgg'),
          lpips: values.text('lpips'),
          alignment: values.text('alignment'),
        },
        resume: values.flag('resume'),
        signal,
        onProgress: progress.show,
      });
      const seconds = (performance.now() - started) / 1000;
      progress.end();
      const { skipped } = result;
      return {
        lines: [
          ...skipped.slice(0, 20).map(({ reason }) => `skipped: ${reason}`),
          ...(skipped.length > 0 ? [`${skipped.length} images could not be read`] : []),
          `trained in ${seconds.toFixed(0)} s: ${result.bundle}`,
          `how it went: ${result.report}`,
        ],
        json: { ...result, seconds },
      };
    } finally {
      await tokenizer?.close();
      await initial?.close();
      progress.end();
    }
  },
};

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

async function openConfig(source: string): Promise<TrainingConfig> {
  if (Object.hasOwn(trainingPresets, source)) return parseTrainingConfig({ preset: source });
  if (!/\.(json|ya?ml)$/.test(source)) {
    throw new UsageError(
      `--config "${source}": give a .json or .yaml file, or one of ${Object.keys(trainingPresets).join(', ')}`,
    );
  }
  return parseTrainingConfig(await readConfig(path.resolve(source)), source);
}

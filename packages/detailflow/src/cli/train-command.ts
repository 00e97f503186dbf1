import path from 'node:path';
import { createNodeBackend } from '@detailflow/backend-node';
import { readConfig } from '@detailflow/checkpoint/node';
import { useLines } from '@detailflow/data';
import { parseTrainingConfig, type TrainingConfig, trainingPresets } from '@detailflow/train';
import { type TrainingPart, train } from '@detailflow/train/node';
import { openModel } from '../model-source';
import { type Command, InterruptedError, UsageError } from './command';
import { wasInterrupted } from './interruption';
import { namedFolder } from './model-options';
import { TrainingInterruption } from './training-interruption';
import { trainingProgress } from './training-progress';
import { Values } from './values';

const parts: readonly TrainingPart[] = ['tokenizer', 'codes', 'ar', 'all'];

export const trainCommand: Command = {
  name: 'train',
  summary: 'train a tokenizer and an AR model on pictures of your own',
  usage: '(tokenizer | codes | ar | all) --config FILE|PRESET --data SOURCE --out DIR [--resume]',
  options: {
    config: {
      type: 'string',
      value: 'C',
      help: `a .json or .yaml file, or a preset: ${Object.keys(trainingPresets).join(', ')}`,
    },
    data: {
      type: 'string',
      source: 'files',
      value: 'SOURCE',
      help: 'folder with a folder of images for each class, IDX or CIFAR files, a .npz file, or shapes:N',
    },
    out: { type: 'string', value: 'DIR', help: 'folder of the run: checkpoints, logs, report.html, bundle' },
    tokenizer: {
      type: 'string',
      source: 'model',
      value: 'DIR',
      help: 'model whose tokenizer to use, instead of training one',
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
    alignment: {
      type: 'string',
      source: 'files',
      value: 'FILE',
      help: 'feature network that the first token must tell',
    },
    resume: { type: 'boolean', help: 'go on from the last checkpoints' },
    device: { type: 'string', value: 'D', help: 'cpu (default), cuda or webgpu' },
  },
  examples: [
    'train all --config tiny-32 --data shapes:20000 --out runs/shapes',
    'train all --config tiny-32 --data fashion-mnist/ --out runs/fashion --resume',
    'train all --config tiny-32 --data fashion-mnist/ --out runs/ar --tokenizer runs/fashion/bundle',
    'train tokenizer --config mine.yaml --data pictures/ --out runs/mine',
  ],
  async run(invocation) {
    const { positionals, signal } = invocation;
    const values = new Values(invocation);
    const [part, ...others] = positionals;
    if (!parts.includes(part as TrainingPart) || others.length > 0) {
      throw new UsageError(`say what to train: one of ${parts.join(', ')}`);
    }
    const config = await openConfig(values.required('config'));
    const device = values.choice('device', ['cpu', 'cuda', 'webgpu'] as const) ?? 'cpu';
    const progress = trainingProgress(process.stderr, invocation.values.json === true);
    const source = values.text('tokenizer');
    const tokenizer = source === undefined ? undefined : await openModel(namedFolder(source), { signal });
    const out = values.required('out');
    const interruption = new TrainingInterruption(process.argv.slice(2));
    const announce = () => {
      progress.end();
      process.stderr.write(`${interruption.atOnce}\n`);
    };
    signal.addEventListener('abort', announce);
    const started = performance.now();
    try {
      const result = await train({
        part: part as TrainingPart,
        config,
        data: values.required('data'),
        out,
        tokenizer: tokenizer?.tokenizer,
        lossNetworks: {
          vgg: values.text('vgg'),
          lpips: values.text('lpips'),
          alignment: values.text('alignment'),
        },
        resume: values.flag('resume'),
        createBackend: ({ threads }) => createNodeBackend({ device, threads }),
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
      return {
        lines: [
          ...useLines(result.data),
          `trained in ${seconds.toFixed(0)} s: ${result.bundle}`,
          `how it went: ${result.report}`,
        ],
        json: { ...result, seconds },
      };
    } catch (error) {
      if (!wasInterrupted(error, signal)) throw error;
      throw new InterruptedError(interruption.afterwards(out), { cause: error });
    } finally {
      signal.removeEventListener('abort', announce);
      await tokenizer?.close();
      progress.end();
    }
  },
};

async function openConfig(source: string): Promise<TrainingConfig> {
  if (Object.hasOwn(trainingPresets, source)) return parseTrainingConfig({ preset: source });
  if (!/\.(json|ya?ml)$/.test(source)) {
    throw new UsageError(
      `--config "${source}": give a .json or .yaml file, or one of ${Object.keys(trainingPresets).join(', ')}`,
    );
  }
  return parseTrainingConfig(await readConfig(path.resolve(source)), source);
}

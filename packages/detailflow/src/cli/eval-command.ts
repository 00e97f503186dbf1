import { evaluationPresets } from '@detailflow/eval';
import { type Command, deviceOptions, InterruptedError, UsageError } from './command';
import { evaluateGenerated } from './eval/generation-evaluation';
import { evaluateImages } from './eval/images-evaluation';
import { evaluateTokenizer } from './eval/tokenizer-evaluation';
import { wasInterrupted } from './interruption';
import { familyOptions } from './model-options';
import { workOptions } from './queue/queue-options';
import { Values } from './values';

const kinds = { tokenizer: evaluateTokenizer, generation: evaluateGenerated, images: evaluateImages };

/** Options that only some kinds know. */
const only: Readonly<Record<keyof typeof kinds, readonly string[]>> = {
  tokenizer: ['tokens', 'noise', 'vgg', 'lpips'],
  generation: [
    ...[
      'cfg',
      'gradual-cfg',
      'guidance',
      'cfg-interval',
      'temperature',
      'top-k',
      'top-p',
      'seed',
      'labels',
      'train',
      'save-images',
    ],
    'ar',
    'queue',
    'results',
  ],
  images: ['images', 'save-statistics'],
};

export const evalCommand: Command = {
  name: 'eval',
  summary: 'measure a tokenizer, generated pictures, or images of any origin, against real ones',
  usage:
    '(tokenizer | generation | images) --data SOURCE --out DIR [--model DIR] [--features FILE] [OPTIONS]',
  options: {
    ...familyOptions,
    data: {
      type: 'string',
      source: 'files',
      value: 'SOURCE',
      help: 'real images, as for train; or a .npz file of statistics (mu, sigma), as the ADM evaluator has them',
    },
    out: {
      type: 'string',
      value: 'DIR',
      help: 'folder for figures (.json), report (.html), pictures, and what is kept to go on',
    },
    features: {
      type: 'string',
      source: 'files',
      value: 'FILE',
      help: 'feature network: pt_inception-2015-12-05-*.pth, or a classifier .safetensors',
    },
    preset: {
      type: 'string',
      value: 'P',
      help: `an evaluation of the paper: ${Object.keys(evaluationPresets).join(', ')}`,
    },
    fit: {
      type: 'string',
      value: 'F',
      help: 'crop or pad: how images are made square (default: as in the training of the model, else crop)',
    },
    background: {
      type: 'string',
      value: 'C',
      help: 'colour under transparent and around padded images (default: as in training, else white)',
    },
    'all-images': {
      type: 'boolean',
      help: 'measure with all images of a source that has no test part, not only with those held out',
    },
    images: { type: 'string', source: 'files', value: 'SOURCE', help: 'images: what is measured, as --data' },
    tokens: {
      type: 'string',
      value: 'LIST',
      help: 'tokenizer: numbers of tokens to restore from (default 1, 2, 4, ... all)',
    },
    noise: {
      type: 'string',
      value: 'LIST',
      help: 'tokenizer: also restore with noise from these tokens on, corrected',
    },
    vgg: {
      type: 'string',
      source: 'files',
      value: 'FILE',
      help: "tokenizer: for LPIPS, torchvision's weights of VGG16",
    },
    lpips: {
      type: 'string',
      source: 'files',
      value: 'FILE',
      help: "tokenizer: for LPIPS, its heads (LPIPS's vgg.pth)",
    },
    count: {
      type: 'string',
      value: 'N',
      help: 'pictures that are generated (default 10000), or images that are used (default all)',
    },
    cfg: {
      type: 'string',
      value: 'LIST',
      help: 'generation: guidance scales, such as 1,1.5,2 (default: as generate)',
    },
    'gradual-cfg': { type: 'boolean', help: 'generation: lower the guidance scale group by group' },
    guidance: {
      type: 'string',
      value: 'NAME',
      help: "generation: how the scale runs along the steps: constant, or one of the model's, such as growing",
    },
    'cfg-interval': {
      type: 'string',
      value: 'N',
      help: 'generation, LlamaGen and PAR: end guidance after N tokens (PAR: and again in the groups)',
    },
    temperature: { type: 'string', value: 'X', help: 'generation: above 0 (default 1)' },
    'top-k': {
      type: 'string',
      value: 'N',
      help: 'generation: among the N most likely tokens, 0 for all (default: as the family does, else all)',
    },
    'top-p': {
      type: 'string',
      value: 'X',
      help: 'generation: among the most likely tokens of total probability X (default as above, else 1)',
    },
    seed: {
      type: 'string',
      value: 'LIST',
      help: 'generation: seeds (default 0), whose pictures are all different; several show the spread',
    },
    labels: {
      type: 'string',
      value: 'L',
      help: "generation: classes, balanced (every one as often) or random (as the official script; with the paper's preset)",
    },
    train: {
      type: 'boolean',
      help: 'generation: also compare the training images: the floor, and the nearest neighbours',
    },
    'save-images': {
      type: 'boolean',
      help: 'generation: also write the pictures as .npz files that the ADM evaluator reads',
    },
    size: {
      type: 'string',
      value: 'N',
      help: 'images: make all N x N pixels first (default: as they are); tokenizer: a size that it knows; generation: decode at it',
    },
    'eval-size': {
      type: 'string',
      value: 'N',
      help: 'tokenizer, generation: resize pictures to N x N (bicubic) before they are measured',
    },
    'save-statistics': {
      type: 'string',
      value: 'FILE',
      help: 'images: write mean and covariance of the features as .npz (mu, sigma)',
    },
    ...deviceOptions,
    ...workOptions,
  },
  examples: [
    'eval tokenizer --model runs/fashion/bundle --data fashion-mnist/ --fit pad --out runs/eval',
    'eval generation --model DIR --data imagenet/ --features pt_inception-2015-12-05.pth --cfg 1,1.5 --out runs/eval',
    'eval generation --model DIR --data REFERENCE.npz --features pt_inception-2015-12-05.pth --queue redis://10.0.0.1 --out runs/eval',
    'eval images --images samples.npz --data VIRTUAL_imagenet256_labeled.npz --features pt_inception-2015-12-05.pth --out runs/eval',
  ],
  async run(invocation) {
    const [what, ...others] = invocation.positionals;
    if (!Object.hasOwn(kinds, what ?? '') || others.length > 0) {
      throw new UsageError(`say what to measure: ${Object.keys(kinds).join(', ')}`);
    }
    const kind = what as keyof typeof kinds;
    for (const [other, names] of Object.entries(only)) {
      const given = names.find((name) => invocation.values[name] !== undefined);
      if (other !== kind && given !== undefined) {
        throw new UsageError(`--${given} is for eval ${other}, not for eval ${kind}`);
      }
    }
    if (kind === 'images' && invocation.values['eval-size'] !== undefined) {
      throw new UsageError('--eval-size is not for eval images: give --size');
    }
    const values = new Values(invocation);
    try {
      return await kinds[kind](invocation, values);
    } catch (error) {
      if (!wasInterrupted(error, invocation.signal)) throw error;
      const kept = `what was measured is kept in ${values.required('out')}: the same command goes on from there`;
      const more = error instanceof InterruptedError ? error.lines : [];
      throw new InterruptedError([kept, ...more], { cause: error });
    }
  },
};

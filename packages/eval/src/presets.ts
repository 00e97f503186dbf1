import type { PictureLabels } from './image-source';

/** Settings of an evaluation that the paper reports. Source: docs/method.md section 6. */
export interface EvaluationPreset {
  readonly what: 'tokenizer' | 'generation';
  /** What it measures, for --help. */
  readonly help: string;
  /** Pictures that are drawn, or images that are restored. */
  readonly count: number;
  /** The guidance scale of models of so many tokens. */
  readonly scaleByTokens?: Readonly<Record<number, number>>;
  /** How the classes of drawn pictures are chosen. */
  readonly labels?: PictureLabels;
  /** `all` tokens, or the noise indices of the noisy evaluation besides. */
  readonly restorations?: 'all' | 'noisy';
}

/** The paper's evaluations, by name. */
export const evaluationPresets: Readonly<Record<string, EvaluationPreset>> = {
  'imagenet256-gfid': {
    what: 'generation',
    help: 'gFID: 50,000 pictures of random classes at the official CFG, 1.45, 1.5 or 1.32 for 128, 256 or 512 tokens',
    count: 50_000,
    labels: 'random',
    scaleByTokens: { 128: 1.45, 256: 1.5, 512: 1.32 },
  },
  'tokenizer-rfid': {
    what: 'tokenizer',
    help: 'rFID, PSNR, SSIM: 50,000 validation images from all tokens',
    count: 50_000,
    restorations: 'all',
  },
  'noisy-rfid': {
    what: 'tokenizer',
    help: 'the same, and with noise from the groups 0, M/4, M/2, 3M/4 and M-1 on, corrected',
    count: 50_000,
    restorations: 'noisy',
  },
};

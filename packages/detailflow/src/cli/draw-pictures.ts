import type { Condition, Guidance, Picture, Tensor } from '@detailflow/core';
import type { GenerationStep } from '@detailflow/sampler';
import type { Model } from '../load';

/** One picture to draw. */
export interface PictureJob {
  readonly index: number;
  /** Its class; for a text its number in the file. */
  readonly label: number;
  /** The text it is drawn for, instead of a class. */
  readonly condition?: Condition;
  readonly seed: number;
}

/** Which pictures: class by class, `count` of each. */
export interface PictureList {
  readonly labels: readonly number[];
  readonly count: number;
  /** Picture i has the seed `seed` + i. */
  readonly seed: number;
}

/** Pictures first .. first + size - 1 of a list. */
export function pictureJobs({ labels, count, seed }: PictureList, first: number, size: number): PictureJob[] {
  return Array.from({ length: size }, (_, i) => ({
    index: first + i,
    label: labels[Math.floor((first + i) / count)],
    seed: seed + first + i,
  }));
}

/** How they are drawn. */
export interface DrawSettings {
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly greedy: boolean;
  readonly guidance?: string | Guidance;
  readonly cfg: number;
  readonly tokens: number;
}

/** Pictures of some jobs, and their tokens where these are wanted. */
export interface DrawnPictures {
  readonly pictures: readonly Picture[];
  readonly tokens?: Tensor<'int32'>;
}

/** Draws pictures step by step: the one way in which `generate` does it, here and on other machines. */
export function drawPictures(
  model: Model,
  jobs: readonly PictureJob[],
  settings: DrawSettings & Pick<Parameters<Model['generate']>[0], 'noise' | 'signal'>,
): AsyncGenerator<GenerationStep, void, void> {
  return model.generate({
    ...settings,
    labels: jobs.map(({ condition, label }) => condition ?? label),
    seed: jobs.map(({ seed }) => seed),
  });
}

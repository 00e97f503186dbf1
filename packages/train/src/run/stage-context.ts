import { writeFileAtomically } from '@detailflow/checkpoint/node';
import type { Backend, Picture } from '@detailflow/core';
import { DetailFlowError } from '@detailflow/core';
import type { HoldOutRecord, ImageDataset } from '@detailflow/data';
import type { RunConfig } from '../family-config';
import type { Arrays } from '../initialise';
import { codesOrigin, codesSettings } from './codes-origin';
import type { ImagesIdentity } from './images-identity';
import { writeReport } from './report';
import type { RunFolder } from './run-folder';
import type { RunModels } from './run-models';
import type { SavedCheckpoint, StageProgress } from './run-stage';
import type { CodesProgress, TrainOptions } from './train-options';
import { parametersOf, readArrays } from './weights';
import { type TrainedModel, writeModel } from './write-model';

/** The images of a run. */
export interface RunData {
  readonly train: ImageDataset;
  readonly heldOut: ImageDataset;
  /** Which images are trained with, and a digest of it. */
  readonly images: { readonly digest: string; readonly train: ImagesIdentity };
  /** How they were divided. */
  readonly record: HoldOutRecord;
}

/** What the stages of a run share. */
export class StageContext {
  constructor(
    readonly options: TrainOptions & { readonly isTimeUp: () => boolean },
    readonly folder: RunFolder,
    readonly backends: readonly Backend[],
    readonly data: RunData,
    readonly models: RunModels,
  ) {}

  get config(): RunConfig {
    return this.options.config;
  }

  /** Options of every stage. */
  common(): {
    folder: RunFolder;
    signal?: AbortSignal;
    isTimeUp: () => boolean;
    onStep?: (progress: StageProgress | CodesProgress) => void;
    onSaved?: (saved: SavedCheckpoint) => void;
    patience: number;
  } {
    const { signal, isTimeUp, onProgress, onSaved } = this.options;
    const { patience } = this.config.validation;
    return { folder: this.folder, signal, isTimeUp, onStep: onProgress, onSaved, patience };
  }

  codesFolder(): Promise<string> {
    return this.folder.place('codes', 'codes.json').then((file) => file.replace(/[/\\]codes\.json$/, ''));
  }

  codesOrigin(parameters: Arrays): string {
    const settings = codesSettings(this.config);
    return codesOrigin({ parameters, images: this.data.images.digest, settings });
  }

  /** The parameters of the tokenizer that was given, or was trained here. @throws DetailFlowError `io` when it is not trained to the end */
  async tokenizer(): Promise<Arrays> {
    const { recipe } = this.config.tokenizer;
    const { specs } = this.models.tokenizer;
    const given = this.options.tokenizer;
    if (given) return readArrays(specs, given.weights);
    const { steps } = recipe.schedule;
    const last = await this.folder.last('tokenizer');
    if (!last || (last.step < steps && !(await this.folder.endedEarly('tokenizer', last.step)))) {
      const found = last ? `is at step ${last.step} of ${steps}` : 'has not begun';
      throw new DetailFlowError(
        'io',
        `the tokenizer ${found}; train it first (detailflow train tokenizer), or give one`,
        { file: this.folder.path },
      );
    }
    return parametersOf(last, specs, { hasMeans: recipe.averageDecay !== undefined });
  }

  write(parts: Pick<TrainedModel, 'tokenizer' | 'ar'>): Promise<void> {
    const { classNames } = this.data.train;
    const { record: heldOut } = this.data;
    const { data: trainedOn, onNotice } = this.options;
    const model = { ...parts, classNames, trainedOn, heldOut, onNotice };
    return writeModel(this.folder, this.config, this.models, model);
  }

  async savePicture(stage: 'tokenizer' | 'ar', step: number, picture: Picture): Promise<void> {
    const file = await this.folder.place(stage, 'pictures', `step-${String(step).padStart(9, '0')}.png`);
    const bytes = await picture.toPng();
    await writeFileAtomically(file, (write) => write(bytes));
    await writeReport(this.folder);
  }
}

/** Which parameters a recipe ends with. */
export const kept = ({ averageDecay }: { averageDecay?: number }) =>
  averageDecay === undefined ? ('current' as const) : ('average' as const);

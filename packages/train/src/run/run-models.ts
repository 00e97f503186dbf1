import type { Backend, ImageTokenizer, ParameterSpec, TokenModel } from '@detailflow/core';
import type { RestoringTokenizer } from '@detailflow/eval';
import type { Arrays } from '../initialise';
import type { TokenModelTrainer } from '../token-model-trainer';
import type { RunFolder } from './run-folder';
import type { Trainable } from './run-stage';
import type { StageContext } from './stage-context';
import type { TrainedModel } from './write-model';

/** What a run knows of the models that it trains; everything else is the same for all. */
export interface RunModels {
  /** On the card of the bundle; none for DetailFlow. */
  readonly family?: string;
  readonly tokenizer: RunTokenizer;
  /** The AR model for so many classes. */
  tokenModel(classes: number): RunTokenModel;
  /** Writes a trained model as its official programs do. */
  writeOfficial?(folder: RunFolder, model: TrainedModel): Promise<void>;
}

/** What a network is read and begun by. */
export interface RunNetwork {
  readonly config: object;
  readonly specs: readonly ParameterSpec[];
  /** Weights that files hold besides. */
  readonly ignored: readonly string[];
}

/** The tokenizer of a run. */
export interface RunTokenizer extends RunNetwork {
  /** Side of a full image in pixels. */
  readonly imageSize: number;
  /** Codes of a full image. */
  readonly tokens: number;
  readonly codebookSize: number;
  /** Numbers of codes at which it is validated; the last is all. */
  readonly previewCounts: readonly number[];
  /** Begins its training, or goes on. */
  open(run: StageContext): Promise<OpenedTokenizerTrainer>;
  /** Makes codes. */
  create(backend: Backend, parameters: Arrays): ImageTokenizer;
  /** Restores images. */
  createRestoring(backend: Backend, parameters: Arrays): RestoringTokenizer;
}

/** A trainer of a tokenizer, with what it holds. */
export interface OpenedTokenizerTrainer extends Trainable<Float32Array> {
  /** Side in pixels of the images that a step is given. */
  readonly imageSize: number;
  /** Parameters, or their running means. */
  parameters(kind: 'current' | 'average'): Promise<Arrays>;
  /** Frees what it holds. */
  close(): Promise<void>;
}

/** The AR model of a run. */
export interface RunTokenModel extends RunNetwork {
  /** Side of the images whose codes it learns, and how many codes they have. */
  readonly imageSize: number;
  readonly tokens: number;
  /** @param options.tokenizer parameters of the tokenizer that the codes are of */
  createTrainer(options: {
    readonly run: StageContext;
    readonly tokenizer: Arrays;
    readonly parameters?: Arrays;
  }): Promise<TokenModelTrainer>;
  /** Draws pictures, with a tokenizer of {@link createTokenizer}. */
  create(backend: Backend, parameters: Arrays, tokenizer: Arrays): TokenModel;
  /** The tokenizer whose codes are in the order in which they are drawn. */
  createTokenizer(backend: Backend, parameters: Arrays): ImageTokenizer;
}

import type { TrainableFamily } from '@detailflow/blocks';
import type { Backend, Weights } from '@detailflow/core';
import type { HoldOutRecord, SkippedImage, SourceUse } from '@detailflow/data';
import type { RunConfig } from '../family-config';
import type { CodesWork } from './codes-work';
import type { EarlierTraining } from './earlier-training';
import type { CodesElsewhere } from './extract-codes';
import type { LossNetworkFiles } from './loss-networks';
import type { SavedCheckpoint, StageProgress } from './run-stage';
import type { TrainedTokenizer } from './trained-tokenizer';

/** Which part of a run: `all` is the tokenizer, then the codes, then the AR model. */
export type TrainingPart = 'tokenizer' | 'codes' | 'ar' | 'all';

/** Options of {@link train}. */
export interface TrainOptions {
  readonly part: TrainingPart;
  readonly config: RunConfig;
  /** The family that the settings are of, where that is not DetailFlow. */
  readonly family?: TrainableFamily;
  /** The data set: see `openDataset`. */
  readonly data: string;
  /** The folder of the run. */
  readonly out: string;
  /** A tokenizer that is trained already: codes are made with it, and nothing is trained of it. */
  readonly tokenizer?: TrainedTokenizer;
  /** Parameters that training begins with, instead of drawing them. */
  readonly initial?: InitialParameters;
  /** Files of the networks that losses of the configuration need. */
  readonly lossNetworks?: LossNetworkFiles;
  /** Folders of codes as the official script keeps them, to be learned instead of codes of the run; see {@link OfficialCodes}. */
  readonly codes?: readonly string[];
  /** A folder to write codes to as the official script keeps them. */
  readonly saveCodes?: string;
  /** The network that judges drawn pictures (`validation.generate`): see `openExtractor` of `@detailflow/eval`. */
  readonly features?: string;
  /** Go on from the last checkpoints. */
  readonly resume?: boolean;
  /** Saves and stops after so many milliseconds, at the end of a step. */
  readonly stopAfter?: number;
  /** Who makes the codes, if not this process: told what they are of and made by. */
  readonly codesElsewhere?: (work: CodesWork) => CodesElsewhere;
  /** Images of a file of codes, the part in which they are made; default 4096. */
  readonly codesShard?: number;
  /** Makes a backend; called once for each replica, with the threads that it should take. */
  readonly createBackend: (options: { threads: number }) => Promise<Backend>;
  /** Ends the run after the step under way, with a checkpoint. */
  readonly signal?: AbortSignal;
  /** Told how far it is. */
  readonly onProgress?: (progress: StageProgress | CodesProgress) => void;
  /** Told what the data set holds and what in it is not used, before anything is trained. */
  readonly onData?: (use: SourceUse) => void;
  /** Told of every checkpoint, and of the one that a stage goes on from. */
  readonly onSaved?: (saved: SavedCheckpoint) => void;
  /** Told how many images have been compared with those that the run was begun with. */
  readonly onCompared?: (done: number, total: number) => void;
  /** Takes one-line notices. */
  readonly onNotice?: (message: string) => void;
  /** Told of every image that cannot be read. */
  readonly onSkip?: (skipped: SkippedImage) => void;
}

/** Where the training of each half begins. */
export interface InitialParameters {
  readonly tokenizer?: InitialPart;
  readonly ar?: InitialPart;
  /** Take what has the same name and shape and draw the rest; otherwise everything must fit. */
  readonly isLenient?: boolean;
}

/** Weights to begin with. */
export interface InitialPart {
  readonly weights: Weights;
  /** Where it is known: settings that weights do not show must agree, too. */
  readonly config?: object;
  /** What its training held out, where that is known: the same images must be held out now. */
  readonly heldOut?: HoldOutRecord;
  /** What its classes are called, where that is known: others get a notice. */
  readonly classNames?: readonly string[];
  /** The training that they are of, to go on from its step, moments and discriminator; of DetailFlow's models. */
  readonly training?: EarlierTraining;
  /** For messages. */
  readonly file?: string;
}

/** How far the encoding of images has come. */
export interface CodesProgress {
  readonly stage: 'codes';
  readonly done: number;
  readonly total: number;
}

/** The parts of a run, in their order. */
export type TrainingStage = 'tokenizer' | 'codes' | 'ar';

/** What a run has made. */
export interface TrainResult {
  /** The bundle, as `load` reads it: with the AR model once that is trained; missing where the run stopped before. */
  readonly bundle?: string;
  readonly report: string;
  /** Where the run stopped because its time was up. */
  readonly stopped?: { readonly stage: TrainingStage };
  readonly skipped: readonly SkippedImage[];
  /** What the data set gave, and what in it was not used, images that could not be read included. */
  readonly data: SourceUse;
}

import type {
  Backend,
  GraphBuilder,
  ImageTokenizer,
  ParameterSpec,
  RandomStream,
  Tensors,
  TokenModel,
  Value,
  Weights,
} from '@detailflow/core';
import type { Parameters } from './parameters';
import type { Dropout } from './rope-transformer';

/** Draws the first values of a parameter, one after the other. */
export type InitialValues = (name: string, shape: readonly number[], random: RandomStream) => () => number;

/** A network that can be trained: its parameters, and where they begin. */
export interface TrainableNetwork {
  /** Everything that determines its graphs, as plain data, as it is read again off its weights. */
  readonly config: object;
  readonly specs: readonly ParameterSpec[];
  readonly initial: InitialValues;
  /** Weights that files hold besides, which say nothing. */
  readonly ignored: readonly string[];
  /** Whether a parameter is pulled to zero by weight decay; those of two and more axes unless said. */
  decays?(name: string, shape: readonly number[]): boolean;
}

/** Weights that go with a configuration. */
export interface TrainableWeights {
  readonly backend: Backend;
  readonly weights: Weights;
}

/** Factors of a quantiser's losses. */
export interface TrainableQuantiser {
  /** Of what pulls codes to latents. */
  readonly vqRatio: number;
  /** Of what pulls latents to their codes. */
  readonly commitBeta: number;
  /** Of the entropy of assignments, where a tokenizer has that. */
  readonly entropyRatio: number;
}

/** A tokenizer that restores whole images from whole codes. */
export interface TrainableTokenizer extends TrainableNetwork {
  /** Side of an image in pixels, S. */
  readonly imageSize: number;
  /** Codes of an image, N. */
  readonly tokens: number;
  readonly codebookSize: number;
  /** Numbers of codes from which pictures are worth looking at, ascending; the last is N. */
  readonly previewCounts: readonly number[];
  /** Names of the codebook [K, d], and of the matrix that pixels come from. */
  readonly codebook: string;
  readonly lastLayer: string;
  /**
   * A step up to its losses, without the distance of pixels. Images f32 [B, 3, S, S] in [-1, 1], of known extents. Result:
   * pixels [B, 3, S, S]; codes i32 [B, N], and vectors [B, N, d] that they were chosen for; vq, commit and entropy, each [1].
   */
  losses(
    p: Parameters,
    images: Value,
    quantiser: TrainableQuantiser,
  ): Readonly<Record<'pixels' | 'codes' | 'vectors' | 'vq' | 'commit' | 'entropy', Value>>;
  /** The tokenizer to use; codes of a picture are in row order, or scale after scale. */
  create(options: TrainableWeights): ImageTokenizer;
}

/** Known codes: class of every row, the number of classes for none; what is fed, and what is to be predicted, [B, N]. */
export interface CodeRowsFed {
  readonly labels: Int32Array;
  readonly rows: Int32Array;
  readonly targets: Int32Array;
}

/** A transformer that predicts codes. */
export interface TrainableTokenModel extends TrainableNetwork {
  /** Codes of a row, N. */
  readonly tokens: number;
  readonly vocabularySize: number;
  readonly classes: number;
  readonly layers: number;
  readonly dim: number;
  /**
   * The cross-entropy of B rows in nats: loss [1], and positionLoss [N] in the order of prediction. Inputs are those of
   * {@link feeds}; weights of the graph are those of the tokenizer that the codes are of. `dropout` changes what branches add
   * and, where a model has values of a sequence to drop, these.
   */
  loss(
    graph: GraphBuilder,
    p: Parameters,
    options: { readonly batch: number; readonly dropout?: Dropout },
  ): { readonly loss: Value; readonly positionLoss: Value };
  /** What goes into the graph of {@link loss} for rows of codes. */
  feeds(rows: CodeRowsFed): Tensors;
}

/** A transformer of a family, with what draws pictures. */
export interface TrainableDrawingModel extends TrainableTokenModel {
  /** Settings that say it all beside tokenizer and classes, as plain data. */
  readonly settings: object;
  /** The model to draw with; `tokenizer` are the weights of the tokenizer that the codes are of. */
  create(options: TrainableWeights & { readonly tokenizer: Weights }): TokenModel;
  /** The tokenizer to draw with: its codes are in the order in which they are drawn. */
  createTokenizer(options: TrainableWeights): ImageTokenizer;
}

/**
 * A kind of models that a run can train: a value that the family's package exports. The run brings data, optimiser, checkpoints
 * and logs, and knows nothing of it.
 */
export interface TrainableFamily {
  /** As settings and commands have it: `llamagen`. */
  readonly name: string;
  /** The family that its bundles are of: `LlamaGen`. */
  readonly family: string;
  /** Settings of whole runs by name. */
  readonly presets: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  /** Settings of recipes that the family does not have, such as `entropyRatio` or `dropout`. */
  readonly without?: readonly string[];
  /** The tokenizer that settings (`tokenizer.model`) say. @throws DetailFlowError `config` naming the setting */
  tokenizer(settings: unknown, file?: string): TrainableTokenizer;
  /**
   * The transformer that settings (`tokenModel.model`) say, for codes of a tokenizer.
   * @throws DetailFlowError `config` naming the setting
   */
  tokenModel(
    settings: unknown,
    options: { readonly tokenizer: TrainableTokenizer; readonly classes: number; readonly file?: string },
  ): TrainableDrawingModel;
}

import type {
  Backend,
  CallOptions,
  Graph,
  Guidance,
  ImageTokenizer,
  LatentTokenizer,
  TextCondition,
  TokenModel,
  WeightDType,
  Weights,
} from '@detailflow/core';
import type { BundleCard } from './bundle-card';
import type { ConfigObject } from './config-files';
import type { TorchContents } from './encode-pickle';
import type { FileTree } from './file-tree';

/** The files that somebody names as a model: one tree, or one for each half. */
export type ModelFiles =
  | { readonly model: FileTree; readonly settings?: ConfigObject }
  | {
      readonly tokenizer: FileTree;
      readonly ar?: FileTree;
      /** What no file says and the user does: sizes that cannot be read off names and shapes. */
      readonly settings?: ConfigObject;
    };

/** One half of an opened model. */
export interface ModelHalf {
  /** What it is, in words: "VQ-16 tokenizer, 16384 codes of 8". */
  readonly description: string;
  /** Everything that determines its graphs, as plain data. */
  readonly config: object;
  readonly weights: Weights;
  /** The file that the weights lie in. */
  readonly file: string;
}

/** The tokenizer of a model, and what can be said of it before anything is compiled. */
export interface TokenizerHalf
  extends ModelHalf,
    Pick<ImageTokenizer, 'previews' | 'tokens' | 'imageSize' | 'codebookSize'> {
  /** Numbers of tokens whose pictures are worth looking at, ascending; the last is all of them. */
  readonly previewCounts: readonly number[];
}

/** What a model for texts is fed with: features of so many rows and columns. */
export interface TextSizes {
  /** Places of a text, T. */
  readonly places: number;
  /** Width of its features, F. */
  readonly width: number;
  /**
   * What a text encoder gives, as many rows as it likes and padding at the end, as the model takes it.
   * @throws DetailFlowError `invalid-argument` for a text of more valid rows than there are places, or of none
   */
  padded(text: TextCondition): TextCondition;
}

/** The transformer of a model, and what can be said of it before anything is compiled. */
export interface TokenModelHalf
  extends ModelHalf,
    Pick<TokenModel, 'tokens' | 'schedule' | 'vocabularySize' | 'classes' | 'sampling'> {
  /** Names of its guidances beside 'constant'. */
  readonly guidances: readonly string[];
  /** Present where the condition is a text. */
  readonly text?: TextSizes;
}

/** A graph of a model and the weights that it names. */
export interface ModelGraph {
  readonly graph: Graph;
  readonly weights: Weights;
}

/** A generation as graphs: `body` runs once for every token or group, `last` draws the picture. */
export interface GeneratorGraphs {
  /** Input of the body, i32 [1], that takes the number of the run. */
  readonly counter: string;
  readonly iterations: number;
  /**
   * Inputs: labels i32 [B], noise f32 [B, N, V] of Exp(1) draws, cfg f32 [1], temperature f32 [1]. States: the KV
   * cache, and `codes` i32 [B, N + g - 1].
   */
  readonly body: Graph;
  /** Input: codes. Outputs: tokens i32 [B, N], pixels f32 [B, 3, S, S]. */
  readonly last: Graph;
}

/** A file as a family releases it: what torch.save writes, safetensors, or a configuration. */
export type ReleasedFile = { readonly path: string } & (
  | { readonly torch: TorchContents | Weights }
  | { readonly safetensors: Weights }
  | { readonly json: ConfigObject }
);

/** A model of some family, opened and checked against its configuration; nothing of the weights is read yet. */
export interface FamilyModel {
  /** Name of the family. */
  readonly family: string;
  /** config.json of a bundle. */
  readonly card?: BundleCard;
  readonly tokenizer: TokenizerHalf;
  readonly ar?: TokenModelHalf;
  /** Height in pixels of the pictures that it draws, or of a full image where it draws none. */
  readonly pictureSize: number;
  /** Their width in pixels, where they are not square. */
  readonly pictureWidth?: number;
  /** Guidance that ends after an interval of tokens, where the family's sampler has that. */
  intervalGuidance?(interval: number): Guidance;
  /**
   * @param options.dtype how the matrices of the transformer are held; a decoder made of such matrices may follow
   * @throws DetailFlowError `unsupported` where the tokenizer has latents but no codes: see {@link createLatentTokenizer}
   */
  createTokenizer(options: { readonly backend: Backend; readonly dtype?: WeightDType }): ImageTokenizer;
  /** Width of a latent, where the tokenizer has continuous latents and no codes. */
  readonly latentDim?: number;
  /** Present where the tokenizer has continuous latents; without codes it is the only way to use it. */
  createLatentTokenizer?(options: {
    readonly backend: Backend;
    readonly dtype?: WeightDType;
  }): LatentTokenizer;
  /** Absent where there is no AR half. The tokenizer is the one that was made of the same files. */
  createTokenModel?(options: {
    readonly backend: Backend;
    readonly dtype?: WeightDType;
    readonly tokenizer: ImageTokenizer;
  }): TokenModel;
  /**
   * The model in the layout in which its family is released, names and buffers of the official state dicts included; what no
   * such file says goes into a config.json beside them. Absent where a family has no layout of its own.
   */
  releasedFiles?(): readonly ReleasedFile[];
  /**
   * What can be written as graphs of their own, by name: `encoder` and `decoder` of the tokenizer, `step` of the transformer,
   * and whatever else the family needs to draw a picture. Each is traced when it is asked for.
   */
  readonly graphs?: Readonly<Record<string, () => ModelGraph>>;
  /** The whole generation as graphs, where a loop over one body makes it. */
  generatorGraphs?(options: { readonly guidance?: string }): GeneratorGraphs;
  /** Frees what it holds, files included. */
  close(): Promise<void>;
}

/**
 * A kind of models that can be opened. Its package exports it as a value; whoever loads models takes a list of them.
 * @see https://detailflow.github.io/detailflow-ts/house/add-a-family.html
 */
export interface Family {
  readonly name: string;
  /** Whether the files look like this family's. Reads names and headers, never weights. */
  recognise(files: ModelFiles, options?: CallOptions): Promise<boolean>;
  /** @throws DetailFlowError naming the file and what is wrong with it, or the setting that has to be given */
  open(files: ModelFiles, options?: CallOptions): Promise<FamilyModel>;
}

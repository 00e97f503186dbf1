import type {
  Backend,
  CallOptions,
  Guidance,
  ImageTokenizer,
  LatentTokenizer,
  TokenModel,
  WeightDType,
  Weights,
} from '@detailflow/core';
import type { BundleCard } from './bundle-card';
import type { ConfigObject } from './config-files';
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

/** The transformer of a model, and what can be said of it before anything is compiled. */
export interface TokenModelHalf
  extends ModelHalf,
    Pick<TokenModel, 'tokens' | 'schedule' | 'vocabularySize' | 'classes' | 'sampling'> {
  /** Names of its guidances beside 'constant'. */
  readonly guidances: readonly string[];
}

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
  /** Guidance that ends after an interval of tokens, where the family's sampler has that. */
  intervalGuidance?(interval: number): Guidance;
  /** @throws DetailFlowError `unsupported` where the tokenizer has latents but no codes: see {@link createLatentTokenizer} */
  createTokenizer(options: { readonly backend: Backend }): ImageTokenizer;
  /** Present where the tokenizer has continuous latents; without codes it is the only way to use it. */
  createLatentTokenizer?(options: { readonly backend: Backend }): LatentTokenizer;
  /** Absent where there is no AR half. The tokenizer is the one that was made of the same files. */
  createTokenModel?(options: {
    readonly backend: Backend;
    readonly dtype?: WeightDType;
    readonly tokenizer: ImageTokenizer;
  }): TokenModel;
  /** Frees what it holds, files included. */
  close(): Promise<void>;
}

/** A kind of models that can be opened. Its package exports it as a value; whoever loads models takes a list of them. */
export interface Family {
  readonly name: string;
  /** Whether the files look like this family's. Reads names and headers, never weights. */
  recognise(files: ModelFiles, options?: CallOptions): Promise<boolean>;
  /** @throws DetailFlowError naming the file and what is wrong with it, or the setting that has to be given */
  open(files: ModelFiles, options?: CallOptions): Promise<FamilyModel>;
}

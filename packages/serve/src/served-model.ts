import type { BundleCard, TextSizes } from '@detailflow/checkpoint';
import type { ImageTokenizer, TokenModel } from '@detailflow/core';

/** What a server needs of a model; a `Model` of the package `detailflow` with an AR part is one. */
export interface ServedModel {
  /** Name of the family, such as 'DetailFlow'. */
  readonly family: string;
  readonly tokenizer: ImageTokenizer;
  readonly tokenModel?: TokenModel;
  readonly card?: BundleCard;
  /** What it draws for, where that is a text. */
  readonly text?: TextSizes;
  /** Guidance scale where a request says nothing. */
  readonly cfg: number;
}

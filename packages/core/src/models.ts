import type { Tensor } from 'onnxruntime-common';

/** Options of calls that run a model. */
export interface CallOptions {
  /** Checked before every run of the model; aborting rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** Turns images into tokens ordered from coarse to fine, and any number of first tokens into an image. */
export interface ImageTokenizer {
  /** Tokens of a full code, N. */
  readonly tokens: number;
  /** Side of a full image in pixels. */
  readonly imageSize: number;
  readonly codebookSize: number;
  /** Side in pixels at which the first `tokens` tokens are drawn. */
  resolution(tokens: number): number;
  /** Images [B, 3, S, S] in [-1, 1] -> codes int32 [B, n]; n is N unless said. */
  encode(images: Tensor, options?: CallOptions & { tokens?: number }): Promise<Tensor>;
  /**
   * Codes int32 [B, >= t] -> images float32 [B, 3, R, R], about [-1, 1]. `tokens` t: all given unless said;
   * `size` R: the resolution of t tokens unless said.
   */
  decode(codes: Tensor, options?: CallOptions & { tokens?: number; size?: number }): Promise<Tensor>;
  /** Frees what the tokenizer holds on its backend. */
  dispose(): Promise<void>;
}

/** Predicts the next token or group of tokens of several sequences. */
export interface TokenModel {
  /** Tokens of a full sequence, N. */
  readonly tokens: number;
  /** Tokens predicted at once after the causal ones. */
  readonly groupSize: number;
  /** First tokens, predicted one by one. */
  readonly causalTokens: number;
  readonly vocabularySize: number;
  readonly classes: number;
  /** The label that stands for "no class". */
  readonly unconditionalLabel: number;
  /** Begins one sequence for each label, 0..classes. */
  begin(labels: readonly number[], options?: CallOptions): Promise<TokenSession>;
  /** Frees what the model holds on its backend. */
  dispose(): Promise<void>;
}

/** Sequences in progress. */
export interface TokenSession {
  /** Tokens known so far. */
  readonly position: number;
  /** How many tokens the next step predicts: 1, or a group. 0 at the end. */
  readonly nextCount: number;
  /**
   * Logits float32 [rows, nextCount, V] of the next tokens. Every call but the first brings the tokens chosen for
   * the previous prediction, row by row.
   */
  predict(chosen: Int32Array | undefined, options?: CallOptions): Promise<Tensor>;
  dispose(): Promise<void>;
}

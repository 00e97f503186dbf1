import type { Tensor } from './tensor';

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
  encode(images: Tensor<'float32'>, options?: CallOptions & { tokens?: number }): Promise<Tensor<'int32'>>;
  /**
   * Codes int32 [B, >= t] -> images float32 [B, 3, R, R], about [-1, 1]. `tokens` t: all given unless said;
   * `size` R: the resolution of t tokens unless said.
   */
  decode(
    codes: Tensor<'int32'>,
    options?: CallOptions & { tokens?: number; size?: number },
  ): Promise<Tensor<'float32'>>;
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
  /** Whether {@link beginDrawing} is the quicker way on this device. */
  readonly drawsOnDevice?: boolean;
  /** Begins one sequence for each label; tokens are chosen on the device. Absent where a model cannot do that. */
  beginDrawing?(labels: readonly number[], options: DrawingOptions): Promise<DrawingSession>;
  /** Frees what the model holds on its backend. */
  dispose(): Promise<void>;
}

export interface DrawingOptions extends CallOptions {
  /** Guide every sequence by one without class. */
  readonly isGuided: boolean;
  /** Draw among so many of the most likely tokens; default 0: all. */
  readonly topK?: number;
  /** Take the most likely token. */
  readonly isGreedy?: boolean;
}

/** Sequences in progress whose tokens stay on the device until they are asked for. */
export interface DrawingSession {
  /** Tokens known so far. */
  readonly position: number;
  /** How many tokens the next step chooses: 1, or a group. 0 at the end. */
  readonly nextCount: number;
  /** Chooses the next tokens. */
  draw(step: DrawingStep, options?: CallOptions): Promise<void>;
  /** The tokens so far, int32 [sequences, position]. @throws DetailFlowError `runtime` when logits were not finite */
  tokens(): Promise<Tensor<'int32'>>;
  dispose(): Promise<void>;
}

export interface DrawingStep {
  /** Exp(1) draws float32 [sequences, nextCount, V]; not for greedy sequences. */
  readonly noise?: Float32Array;
  readonly temperature?: number;
  /** How far logits move away from those without class, where sequences are guided. */
  readonly scale?: number;
  /** Tokens that are not drawn: the first ones of the step, int32 [sequences, as many]. */
  readonly given?: Int32Array;
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
  predict(chosen: Int32Array | undefined, options?: CallOptions): Promise<Tensor<'float32'>>;
  dispose(): Promise<void>;
}

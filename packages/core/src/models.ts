import type { Tensor } from './tensor';

/** Options of calls that run a model. */
export interface CallOptions {
  /** Checked before every run of the model; aborting rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

/**
 * What the first tokens of a code show: the whole picture in less detail, or at a coarser scale, or its upper rows; or nothing,
 * where tokens have no order.
 */
export type PreviewKind = 'coarse-to-fine' | 'scales' | 'rows' | 'none';

/** Turns images into tokens, and the first tokens into a picture of what is known so far. */
export interface ImageTokenizer {
  /** What a picture of a part of the tokens is. */
  readonly previews: PreviewKind;
  /** Tokens of a full code, N. */
  readonly tokens: number;
  /** Side of a full image in pixels; its height where images are not square. */
  readonly imageSize: number;
  readonly codebookSize: number;
  /** Side in pixels at which the first `tokens` tokens are drawn; the height where they are not square. */
  resolution(tokens: number): number;
  /** Width in pixels of the same picture; absent where all are square. */
  width?(tokens: number): number;
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

/** Turns images into continuous latents and back. */
export interface LatentTokenizer {
  /** Latents of an image, L. */
  readonly tokens: number;
  /** Width of a latent, d. */
  readonly latentDim: number;
  /** Side of an image in pixels, S. */
  readonly imageSize: number;
  /** Images float32 [B, 3, S, S] in [-1, 1] -> latents float32 [B, L, d]. */
  encodeLatents(images: Tensor<'float32'>, options?: CallOptions): Promise<Tensor<'float32'>>;
  /** Latents float32 [B, L, d] -> images float32 [B, 3, S, S], about [-1, 1]. */
  decodeLatents(latents: Tensor<'float32'>, options?: CallOptions): Promise<Tensor<'float32'>>;
  /** Frees what the tokenizer holds on its backend. */
  dispose(): Promise<void>;
}

/** Features of a text, as its encoder gives them. */
export interface TextCondition {
  /** float32 [T, F]. */
  readonly features: Tensor<'float32'>;
  /** bool [T]: the rows that belong to the text; all unless given. */
  readonly mask?: Tensor<'bool'>;
}

/** What a sequence is drawn for: the number of a class, or a text. */
export type Condition = number | TextCondition;

/** One step of a schedule: it predicts tokens `position` to `position + count - 1`. */
export interface ScheduleStep {
  /** 0 to steps - 1. */
  readonly index: number;
  readonly steps: number;
  readonly position: number;
  readonly count: number;
}

/**
 * The scale s of a step's logits, uncond + (cond - uncond) s, from the number that the user gave. 1 means none: if
 * every step says so, sequences without condition are not computed.
 */
export type Guidance = (step: ScheduleStep, cfg: number) => number;

/** How a token is chosen from its logits. */
export interface TokenChoice {
  /** Divides the logits; from 1e-5. */
  readonly temperature: number;
  /** Keeps the k largest logits and all that equal the k-th; 0 keeps all. */
  readonly topK: number;
  /** Keeps the most probable tokens until their sum exceeds p; 1 keeps all. The first token always stays. */
  readonly topP: number;
}

/** What a model recommends where the caller says nothing. */
export interface SamplingDefaults extends TokenChoice {
  readonly cfg: number;
  /** 'constant', or a name of {@link TokenModel.guidances}. */
  readonly guidance: string;
}

/** Predicts the tokens of several sequences, step by step along its schedule. */
export interface TokenModel {
  /** Tokens of a full sequence, N. */
  readonly tokens: number;
  /** Tokens that each step predicts, in order: N in all. */
  readonly schedule: readonly number[];
  readonly vocabularySize: number;
  /** Classes that a sequence can be drawn for; 0 where the condition is a text. */
  readonly classes: number;
  /** What the model recommends; whatever is missing is the sampler's default. */
  readonly sampling?: Partial<SamplingDefaults>;
  /** Ways in which its guidance can run along the steps, by name, beside the constant one. */
  readonly guidances?: Readonly<Record<string, Guidance>>;
  /** The condition that stands for "nothing asked for" beside this one. */
  unconditional(condition?: Condition): Condition;
  /** How the tokens of a step are chosen, where that differs from what the caller wants. */
  choiceAt?(step: ScheduleStep, choice: TokenChoice): TokenChoice;
  /** Begins one sequence for each condition; classes are 0..classes, the last for none. */
  begin(conditions: readonly Condition[], options?: CallOptions): Promise<TokenSession>;
  /** Opens a batch whose sequences begin and end at different times. Absent where a device or a model cannot do that. */
  openPool?(options: TokenPoolOptions): Promise<TokenPool>;
  /** Whether {@link beginDrawing} is the quicker way on this device. */
  readonly drawsOnDevice?: boolean;
  /** Begins one sequence for each condition; tokens are chosen on the device. Absent where a model cannot do that. */
  beginDrawing?(conditions: readonly Condition[], options: DrawingOptions): Promise<DrawingSession>;
  /** Frees what the model holds on its backend. */
  dispose(): Promise<void>;
}

/** How a {@link DrawingSession} chooses tokens. */
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
  /** Frees what it holds on the device. */
  dispose(): Promise<void>;
}

/** What one step of a {@link DrawingSession} is given. */
export interface DrawingStep {
  /** Exp(1) draws float32 [sequences, nextCount, V]; not for greedy sequences. */
  readonly noise?: Float32Array;
  readonly temperature?: number;
  /** How far logits move away from those without class, where sequences are guided. */
  readonly scale?: number;
  /** Tokens that are not drawn, int32 [sequences, nextCount], at the places that `isGiven` marks. */
  readonly given?: Int32Array;
  /** [nextCount], 1 where `given` counts. */
  readonly isGiven?: Uint8Array;
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
  /** Frees what it holds on the device. */
  dispose(): Promise<void>;
}

/** Options of a pool of pictures. */
export interface TokenPoolOptions extends CallOptions {
  /** Rows that the pool has room for, from 1; memory for their caches is taken at once. */
  readonly rows: number;
}

/** A batch whose sequences begin and end between its steps, each at a place of its own; no row sees another. */
export interface TokenPool {
  /** Rows that it has room for. */
  readonly rows: number;
  /**
   * Takes a row for each condition; these rows go on together.
   * @throws DetailFlowError `limit` when so many are not free, `invalid-argument` for conditions that the model does not have
   */
  begin(conditions: readonly Condition[]): PoolMember;
  /**
   * One step of several members, all of the same `nextCount`, in one run. If it fails, nobody has moved.
   * @returns for every member and each of its rows the logits of the next tokens, [nextCount * V]
   */
  predict(steps: readonly PoolStep[], options?: CallOptions): Promise<readonly (readonly Float32Array[])[]>;
  /** Frees the places of all rows. */
  dispose(): Promise<void>;
}

/** What one run of a pool is to compute. */
export interface PoolStep {
  readonly member: PoolMember;
  /** The tokens chosen for its last prediction, row by row; none at first. */
  readonly chosen?: Int32Array;
}

/** Rows of a pool that were begun together. */
export interface PoolMember {
  /** Tokens known so far. */
  readonly position: number;
  /** How many tokens the next step predicts: 1, or a group. 0 at the end. */
  readonly nextCount: number;
  /** Gives the rows back; not during a step of this member. */
  release(): void;
}

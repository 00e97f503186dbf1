import { checkChosenTokens } from '@detailflow/blocks';
import {
  type Backend,
  type CallOptions,
  type Condition,
  checkOptions,
  DetailFlowError,
  type Executable,
  LazyExecutable,
  ofType,
  type SamplingDefaults,
  type State,
  Tensor,
  type TokenModel,
  type TokenSession,
  validateWeights,
  type WeightDType,
  type Weights,
} from '@detailflow/core';
import { type NoText, noTextBeside, type TextFeeds, textFeeds } from './text-condition';
import { type TextGptConfig, textGptParameters } from './text-config';
import { textStepGraph } from './text-graphs';

/** What a text-conditional token model is made of. */
export interface TextTokenModelOptions {
  readonly config: TextGptConfig;
  readonly weights: Weights;
  readonly backend: Backend;
  /** How the matrices are held while the model runs: 'fp32' (default), 'fp16' (WebGPU alone), or rounded to 'q8' or 'q4'. */
  readonly dtype?: WeightDType;
  /** Where the weights come from, for messages. */
  readonly file?: string;
}

/** Settings of the official demonstration. */
export const TEXT_SAMPLING: Partial<SamplingDefaults> = { cfg: 7.5, topK: 1000 };

/** Loads a text-conditional GPT. It is compiled when the first sequence begins. */
export function createTextTokenModel(options: TextTokenModelOptions): TextTokenModel {
  checkOptions('createTextTokenModel', options, {
    ...{ config: true, weights: true, backend: true, dtype: true, file: true },
  });
  return new TextTokenModel(options);
}

/**
 * LlamaGen's GPT for texts, with an exact KV cache: the places of the text first, at once, then code after code; padding stays
 * masked for every row. Conditions are the features of a text as its encoder (flan-t5-xl officially) gives them.
 */
export class TextTokenModel implements TokenModel {
  readonly config: TextGptConfig;
  readonly schedule: readonly number[];
  /** Conditions are texts. */
  readonly classes = 0;
  readonly sampling = TEXT_SAMPLING;
  readonly #executable: LazyExecutable;

  /** @throws DetailFlowError `weights` when the weights do not fit the configuration */
  constructor({ config, weights, backend, dtype, file }: TextTokenModelOptions) {
    validateWeights(weights, textGptParameters(config), { file, ignore: ['freqs_cis'] });
    this.config = config;
    this.schedule = Array<number>(config.tokens).fill(1);
    this.#executable = new LazyExecutable(() => backend.compile(textStepGraph(config), weights, { dtype }));
  }

  get tokens(): number {
    return this.config.tokens;
  }

  get vocabularySize(): number {
    return this.config.vocabularySize;
  }

  /** "No text", at the places that the text fills. */
  unconditional(condition?: Condition): NoText {
    return noTextBeside(condition, this.config);
  }

  async begin(conditions: readonly Condition[], options: CallOptions = {}): Promise<TokenSession> {
    checkOptions('begin', options, { signal: true });
    options.signal?.throwIfAborted();
    const text = textFeeds(conditions, this.config);
    const executable = await this.#executable.get();
    const state = await executable.createState({ batch: conditions.length });
    return new TextSession(this.config, executable, state, text);
  }

  /** Frees what it holds on the device. */
  async dispose(): Promise<void> {
    await this.#executable.dispose();
  }
}

class TextSession implements TokenSession {
  readonly #config: TextGptConfig;
  readonly #executable: Executable;
  readonly #state: State;
  readonly #text: TextFeeds;
  #position = 0;
  /** Whether logits for the next token have been handed out. */
  #predicted = false;

  constructor(config: TextGptConfig, executable: Executable, state: State, text: TextFeeds) {
    this.#config = config;
    this.#executable = executable;
    this.#state = state;
    this.#text = text;
  }

  get position(): number {
    return this.#position;
  }

  get nextCount(): number {
    return this.#position < this.#config.tokens ? 1 : 0;
  }

  async predict(chosen: Int32Array | undefined, options: CallOptions = {}): Promise<Tensor<'float32'>> {
    checkOptions('predict', options, { signal: true });
    const { signal } = options;
    signal?.throwIfAborted();
    const known = this.#position;
    this.#take(chosen);
    if (this.nextCount === 0) throw new DetailFlowError('invalid-argument', 'the sequences are complete');
    try {
      const { logits } = await this.#executable.run(this.#feeds(chosen), { state: this.#state, signal });
      this.#predicted = true;
      return ofType(logits, 'float32');
    } catch (error) {
      this.#position = known; // the cache is as it was, so the step can be tried again
      throw error;
    }
  }

  /** Frees what it holds on the device. */
  async dispose(): Promise<void> {
    await this.#state.dispose();
  }

  /** Checks the tokens chosen for the last prediction and moves on past them. */
  #take(chosen: Int32Array | undefined): void {
    const rows = this.#text.isNothing.dims[0];
    const expected = this.#predicted ? rows : 0;
    checkChosenTokens(chosen, { expected, vocabularySize: this.#config.vocabularySize });
    if (this.#predicted) this.#position++;
  }

  /** The text at first, then the last code alone. */
  #feeds(chosen: Int32Array | undefined) {
    const { textPlaces, textWidth } = this.#config;
    const { features, mask, isNothing } = this.#text;
    const rows = isNothing.dims[0];
    const isFirst = this.#position === 0;
    const length = isFirst ? textPlaces : 1;
    const from = isFirst ? 0 : textPlaces + this.#position - 1;
    const positions = Int32Array.from({ length }, (_, i) => from + i);
    const ids = isFirst ? new Int32Array(rows * length) : (chosen as Int32Array);
    return {
      ...{ mask, isNothing },
      features: isFirst
        ? features
        : new Tensor('float32', new Float32Array(rows * textWidth), [rows, 1, textWidth]),
      ids: new Tensor('int32', ids, [rows, length]),
      isText: new Tensor('bool', new Uint8Array(length).fill(Number(isFirst)), [length]),
      positions: new Tensor('int32', positions, [length]),
    };
  }
}

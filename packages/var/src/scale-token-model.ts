import {
  type Backend,
  type CallOptions,
  type Condition,
  checkOptions,
  DetailFlowError,
  type Executable,
  type Guidance,
  LazyExecutable,
  ofType,
  resizeMatrix,
  type SamplingDefaults,
  type ScheduleStep,
  type State,
  Tensor,
  type Tensors,
  type TokenChoice,
  type TokenModel,
  type TokenSession,
  validateWeights,
  type WeightDType,
  type Weights,
} from '@detailflow/core';
import { scaleInputsGraph, scaleStepGraph } from './graphs';
import { FLEXVAR_SAMPLING, flexChoice, flexGuidance, growingGuidance, VAR_SAMPLING } from './scale-rules';
import {
  ignoredScaleWeights,
  POSITION_SIDE,
  type ScaleTransformerConfig,
  scaleTransformerParameters,
} from './scale-transformer';
import { places, placesOf, type Scale, sameScale, scaleStarts } from './scales';
import {
  ignoredScaleTokenizerWeights,
  type ScaleTokenizerConfig,
  scaleTokenizerParameters,
} from './var-tokenizer-config';

export interface ScaleTokenModelOptions {
  readonly config: ScaleTransformerConfig;
  readonly weights: Weights;
  /** The tokenizer that the model belongs to: a scale is fed with the picture of the coarser ones. */
  readonly tokenizer: { readonly config: ScaleTokenizerConfig; readonly weights: Weights };
  readonly backend: Backend;
  /** How the matrices of the transformer are held: 'fp32' (default), or rounded to 'q8' or 'q4'. */
  readonly dtype?: WeightDType;
  readonly file?: string;
  /** FlexVAR: scales above this side are not sampled; default 16. */
  readonly largestDrawn?: number;
  /** Codes that are never drawn. */
  readonly invalidCodes?: readonly number[];
}

/** Loads VAR or FlexVAR. It is compiled when the first sequence begins. */
export function createScaleTokenModel(options: ScaleTokenModelOptions): ScaleTokenModel {
  return new ScaleTokenModel(options);
}

/** The next-scale transformer: a whole scale is drawn at once, from the picture of the coarser ones. */
export class ScaleTokenModel implements TokenModel {
  readonly config: ScaleTransformerConfig;
  readonly schedule: readonly number[];
  readonly sampling: Partial<SamplingDefaults>;
  readonly guidances: { readonly growing: Guidance };
  readonly choiceAt?: (step: ScheduleStep, choice: TokenChoice) => TokenChoice;
  readonly #options: ScaleTokenModelOptions;
  readonly #step: LazyExecutable;
  readonly #inputs: LazyExecutable;

  /** @throws DetailFlowError `weights` or `config` when weights, configuration and tokenizer do not fit each other */
  constructor(options: ScaleTokenModelOptions) {
    checkOptions('createScaleTokenModel', options, {
      ...{ config: true, weights: true, tokenizer: true, backend: true, dtype: true, file: true },
      ...{ largestDrawn: true, invalidCodes: true },
    });
    const { config, weights, tokenizer, backend, dtype, file, largestDrawn = 16 } = options;
    validateWeights(weights, scaleTransformerParameters(config), {
      file,
      ignore: ignoredScaleWeights(config),
    });
    validateWeights(tokenizer.weights, scaleTokenizerParameters(tokenizer.config), {
      ignore: ignoredScaleTokenizerWeights,
    });
    const { codebookSize, codeDim, scales, coding } = tokenizer.config;
    const isSame =
      scales.length === config.scales.length && scales.every((one, k) => sameScale(one, config.scales[k]));
    if (codebookSize !== config.vocabularySize || codeDim !== config.codeDim || !isSame) {
      throw new DetailFlowError(
        'config',
        `the tokenizer has ${codebookSize} codes of ${codeDim} on ${scales.length} scales of ${placesOf(scales)} places, the ` +
          `transformer ${config.vocabularySize} of ${config.codeDim} on ${config.scales.length} of ${placesOf(config.scales)}: they do not belong together`,
        { file },
      );
    }
    this.config = config;
    this.#options = options;
    this.schedule = config.scales.map(places);
    const isPlain = coding === 'plain';
    this.sampling = isPlain ? FLEXVAR_SAMPLING : VAR_SAMPLING;
    this.guidances = { growing: isPlain ? flexGuidance(config.scales, largestDrawn) : growingGuidance };
    if (isPlain) this.choiceAt = flexChoice(config.scales, largestDrawn);
    this.#step = new LazyExecutable(() => backend.compile(scaleStepGraph(config), weights, { dtype }));
    this.#inputs = new LazyExecutable(() =>
      backend.compile(scaleInputsGraph(tokenizer.config), tokenizer.weights),
    );
  }

  get tokens(): number {
    return placesOf(this.config.scales);
  }

  get vocabularySize(): number {
    return this.config.vocabularySize;
  }

  get classes(): number {
    return this.config.classes;
  }

  /** The label that stands for "no class". */
  unconditional(): number {
    return this.config.classes;
  }

  async begin(conditions: readonly Condition[], options: CallOptions = {}): Promise<TokenSession> {
    checkOptions('begin', options, { signal: true });
    const { signal } = options;
    signal?.throwIfAborted();
    const { classes } = this.config;
    const isLabel = (one: Condition) =>
      typeof one === 'number' && Number.isInteger(one) && one >= 0 && one <= classes;
    if (conditions.length === 0 || !conditions.every(isLabel)) {
      const wrong = conditions.find((one) => !isLabel(one));
      const given = conditions.length === 0 ? 'none given' : typeof wrong === 'number' ? wrong : 'a text';
      throw new DetailFlowError('invalid-argument', `labels: ${given}; give class numbers 0..${classes}`);
    }
    const step = await this.#step.get();
    const inputs = this.config.scales.length > 1 ? await this.#inputs.get() : undefined;
    const state = await step.createState({ batch: conditions.length });
    return new ScaleSession({
      ...{ config: this.config, step, inputs, state, labels: Int32Array.from(conditions as number[]) },
      invalidCodes: this.#options.invalidCodes ?? [],
    });
  }

  async dispose(): Promise<void> {
    await this.#step.dispose();
    await this.#inputs.dispose();
  }
}

interface SessionOptions {
  readonly config: ScaleTransformerConfig;
  readonly step: Executable;
  readonly inputs: Executable | undefined;
  readonly state: State;
  readonly labels: Int32Array;
  readonly invalidCodes: readonly number[];
}

/** Logit of a code that is never drawn, as officially. */
const INVALID_LOGIT = -100;

class ScaleSession implements TokenSession {
  readonly #options: SessionOptions;
  /** int32 [rows, L]: known codes of each row; the others are 0 and count for nothing. */
  readonly #codes: Int32Array;
  #scale = 0;
  /** Whether logits for this scale have been handed out. */
  #predicted = false;

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#codes = new Int32Array(options.labels.length * placesOf(options.config.scales));
  }

  get position(): number {
    const { scales } = this.#options.config;
    return this.#scale < scales.length ? scaleStarts(scales)[this.#scale] : placesOf(scales);
  }

  get nextCount(): number {
    const { scales } = this.#options.config;
    return this.#scale < scales.length ? places(scales[this.#scale]) : 0;
  }

  async predict(chosen: Int32Array | undefined, { signal }: CallOptions = {}): Promise<Tensor<'float32'>> {
    signal?.throwIfAborted();
    const { step, state, labels, invalidCodes, config } = this.#options;
    const [known, wasPredicted] = [this.#scale, this.#predicted];
    this.#take(chosen);
    if (this.nextCount === 0) throw new DetailFlowError('invalid-argument', 'the sequences are complete');
    try {
      const maps = await this.#maps(signal);
      const feeds = { ...this.#places(), labels: new Tensor('int32', labels, [labels.length]), maps };
      const logits = ofType((await step.run(feeds, { state, signal })).logits, 'float32');
      this.#predicted = true;
      const values = logits.data;
      for (const code of invalidCodes) {
        for (let at = code; at < values.length; at += config.vocabularySize) values[at] = INVALID_LOGIT;
      }
      return logits;
    } catch (error) {
      [this.#scale, this.#predicted] = [known, wasPredicted]; // the cache is as it was, so the step can be tried again
      throw error;
    }
  }

  async dispose(): Promise<void> {
    await this.#options.state.dispose();
  }

  /** Checks the codes chosen for the last prediction and moves on to the next scale. */
  #take(chosen: Int32Array | undefined): void {
    const { labels, config } = this.#options;
    const count = this.nextCount;
    const expected = this.#predicted ? labels.length * count : 0;
    if ((chosen?.length ?? 0) !== expected) {
      throw new DetailFlowError(
        'invalid-argument',
        `${chosen?.length ?? 0} tokens were chosen, ${expected} were predicted`,
      );
    }
    const limit = config.vocabularySize;
    const wrong = chosen?.find((token) => token < 0 || token >= limit);
    if (wrong !== undefined)
      throw new DetailFlowError('invalid-argument', `the token ${wrong} is not in 0..${limit - 1}`);
    if (!chosen) return;
    const [start, all] = [this.position, placesOf(config.scales)];
    for (let row = 0; row < labels.length; row++) {
      this.#codes.set(chosen.subarray(row * count, (row + 1) * count), row * all + start);
    }
    this.#scale++;
    this.#predicted = false;
  }

  /** The picture so far at the size of this scale, [rows, l, z]; zeros for the first one, which has none. */
  async #maps(signal?: AbortSignal): Promise<Tensor<'float32'>> {
    const { config, inputs, labels } = this.#options;
    const { codeDim: width, scales } = config;
    const [rows, count, all] = [labels.length, this.nextCount, placesOf(scales)];
    const out = new Float32Array(rows * count * width);
    if (this.#scale > 0 && inputs) {
      const codes = new Tensor('int32', this.#codes.slice(), [rows, all]);
      const { maps } = await inputs.run({ codes }, { signal });
      const length = maps.dims[1];
      const start = this.position - places(scales[0]);
      for (let row = 0; row < rows; row++) {
        const from = (row * length + start) * width;
        out.set((maps.data as Float32Array).subarray(from, from + count * width), row * count * width);
      }
    }
    return new Tensor('float32', out, [rows, count, width]);
  }

  #places(): Tensors {
    const { config } = this.#options;
    const [count, start, isFirst] = [this.nextCount, this.position, this.#scale === 0];
    const row = (value: (i: number) => number) =>
      new Tensor(
        'int32',
        Int32Array.from({ length: count }, (_, i) => value(i)),
        [count],
      );
    return {
      offset: new Tensor('int32', Int32Array.of(start), [1]),
      isFirst: new Tensor('bool', new Uint8Array(count).fill(Number(isFirst)), [count]),
      firstPlaces: row((i) => (isFirst ? i : 0)),
      ...(config.positions === 'area'
        ? { averages: positionAverages(config.scales[this.#scale]) }
        : { places: row((i) => start + i), levels: row(() => this.#scale) }),
    };
  }
}

/** How each place of a scale averages FlexVAR's map of positions: f32 [p, 32 * 32]. */
export function positionAverages({ rows, columns }: Scale): Tensor<'float32'> {
  const side = POSITION_SIDE;
  const [down, across] = [resizeMatrix('area', side, rows), resizeMatrix('area', side, columns)];
  const out = new Float32Array(rows * columns * side * side);
  let at = 0;
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) {
      for (let i = 0; i < side; i++) {
        for (let j = 0; j < side; j++) out[at++] = down[y * side + i] * across[x * side + j];
      }
    }
  }
  return new Tensor('float32', out, [rows * columns, side * side]);
}

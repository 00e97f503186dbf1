import { checkChosenTokens, classLabels } from '@detailflow/blocks';
import {
  type Backend,
  type CallOptions,
  type Condition,
  checkOptions,
  DetailFlowError,
  type Executable,
  type Guidance,
  LazyExecutable,
  type SamplingDefaults,
  type ScheduleStep,
  Tensor,
  type TokenChoice,
  type TokenModel,
  type TokenSession,
  validateWeights,
  type WeightDType,
  type Weights,
} from '@detailflow/core';
import { growingScaleStepGraph, scaleInputsGraph } from './graphs';
import { FLEXVAR_SAMPLING, flexChoice, flexGuidance, growingGuidance, VAR_SAMPLING } from './scale-rules';
import { ScaleStepper } from './scale-stepper';
import {
  ignoredScaleWeights,
  type ScaleTransformerConfig,
  scaleTransformerParameters,
} from './scale-transformer';
import { places, placesOf, sameScale, scaleStarts } from './scales';
import { requireStepMemory } from './step-memory';
import {
  ignoredScaleTokenizerWeights,
  type ScaleTokenizerConfig,
  scaleTokenizerParameters,
} from './var-tokenizer-config';

/** What a next-scale token model is made of. */
export interface ScaleTokenModelOptions {
  readonly config: ScaleTransformerConfig;
  readonly weights: Weights;
  /** The tokenizer that the model belongs to: a scale is fed with the picture of the coarser ones. */
  readonly tokenizer: { readonly config: ScaleTokenizerConfig; readonly weights: Weights };
  readonly backend: Backend;
  /** How the matrices of the transformer are held: 'fp32' (default), 'fp16' (WebGPU alone), or rounded to 'q8' or 'q4'. */
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
    this.#step = new LazyExecutable(() => backend.compile(growingScaleStepGraph(config), weights, { dtype }));
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
    const stepper = await this.beginScales(conditions, options);
    const inputs = this.config.scales.length > 1 ? await this.#inputs.get() : undefined;
    return new ScaleSession({ config: this.config, stepper, inputs, rows: conditions.length });
  }

  /**
   * Begins sequences whose maps come from outside instead of from codes.
   * @throws DetailFlowError `config` for scales whose attention takes too much memory, before anything is compiled
   */
  async beginScales(conditions: readonly Condition[], options: CallOptions = {}): Promise<ScaleStepper> {
    checkOptions('beginScales', options, { signal: true });
    options.signal?.throwIfAborted();
    const labels = Int32Array.from(classLabels(conditions, this.classes));
    requireStepMemory(this.config, this.#options.file);
    const step = await this.#step.get();
    const state = await step.createState({ batch: labels.length, cache: this.tokens });
    const { invalidCodes = [] } = this.#options;
    return new ScaleStepper({ config: this.config, step, state, labels, invalidCodes });
  }

  /** Frees what it holds on the device. */
  async dispose(): Promise<void> {
    await this.#step.dispose();
    await this.#inputs.dispose();
  }
}

interface SessionOptions {
  readonly config: ScaleTransformerConfig;
  readonly stepper: ScaleStepper;
  readonly inputs: Executable | undefined;
  readonly rows: number;
}

class ScaleSession implements TokenSession {
  readonly #options: SessionOptions;
  /** int32 [rows, L]: known codes of each row; the others are 0 and count for nothing. */
  readonly #codes: Int32Array;
  #scale = 0;
  /** Whether logits for this scale have been handed out. */
  #predicted = false;

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#codes = new Int32Array(options.rows * placesOf(options.config.scales));
  }

  get position(): number {
    const { scales } = this.#options.config;
    return this.#scale < scales.length ? scaleStarts(scales)[this.#scale] : placesOf(scales);
  }

  get nextCount(): number {
    const { scales } = this.#options.config;
    return this.#scale < scales.length ? places(scales[this.#scale]) : 0;
  }

  async predict(chosen: Int32Array | undefined, options: CallOptions = {}): Promise<Tensor<'float32'>> {
    checkOptions('predict', options, { signal: true });
    const { signal } = options;
    signal?.throwIfAborted();
    const [known, wasPredicted] = [this.#scale, this.#predicted];
    this.#take(chosen);
    if (this.nextCount === 0) throw new DetailFlowError('invalid-argument', 'the sequences are complete');
    try {
      const maps = await this.#maps(signal);
      const logits = await this.#options.stepper.logits(this.#scale, maps, signal);
      this.#predicted = true;
      return logits;
    } catch (error) {
      [this.#scale, this.#predicted] = [known, wasPredicted]; // the cache is as it was, so the step can be tried again
      throw error;
    }
  }

  /** Frees what it holds on the device. */
  async dispose(): Promise<void> {
    await this.#options.stepper.dispose();
  }

  /** Checks the codes chosen for the last prediction and moves on to the next scale. */
  #take(chosen: Int32Array | undefined): void {
    const { rows, config } = this.#options;
    const count = this.nextCount;
    const expected = this.#predicted ? rows * count : 0;
    checkChosenTokens(chosen, { expected, vocabularySize: config.vocabularySize });
    if (!chosen) return;
    const [start, all] = [this.position, placesOf(config.scales)];
    for (let row = 0; row < rows; row++) {
      this.#codes.set(chosen.subarray(row * count, (row + 1) * count), row * all + start);
    }
    this.#scale++;
    this.#predicted = false;
  }

  /** The picture so far at the size of this scale, [rows, l, z]; zeros for the first one, which has none. */
  async #maps(signal?: AbortSignal): Promise<Float32Array> {
    const { config, inputs, rows } = this.#options;
    const { codeDim: width, scales } = config;
    const [count, all] = [this.nextCount, placesOf(scales)];
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
    return out;
  }
}

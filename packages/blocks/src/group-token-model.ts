import {
  type Backend,
  type CallOptions,
  type Condition,
  checkOptions,
  DetailFlowError,
  type DrawingOptions,
  type DrawingSession,
  type Executable,
  type Guidance,
  LazyExecutable,
  ofType,
  type SamplingDefaults,
  type State,
  Tensor,
  type TokenModel,
  type TokenPool,
  type TokenPoolOptions,
  type TokenSession,
  validateWeights,
  type WeightDType,
  type Weights,
} from '@detailflow/core';
import { checkChosenTokens } from './chosen-tokens';
import { classLabels } from './class-labels';
import { type DrawGraphOptions, drawGraph } from './draw-graph';
import { DeviceDrawingSession } from './drawing-session';
import type { GroupTransformerConfig } from './group-config';
import { growingStepGraph } from './group-graphs';
import { groupParameters, ignoredGroupWeights } from './group-parameters';
import { gradualGuidance, groupSchedule } from './group-schedule';
import { growingCache } from './growing-cache';
import { PlaceKind } from './places';
import { type StepPlaces, stepPlaces } from './step-places';

/** What a transformer that draws tokens in groups is made of. */
export interface GroupTokenModelOptions {
  readonly config: GroupTransformerConfig;
  readonly weights: Weights;
  readonly backend: Backend;
  /** How the matrices are held while the model runs: 'fp32' (default), 'fp16' (WebGPU alone), or rounded to 'q8' or 'q4'. */
  readonly dtype?: WeightDType;
  /** Where the weights come from, for messages. */
  readonly file?: string;
  /** What the model recommends where the caller says nothing. */
  readonly sampling?: Partial<SamplingDefaults>;
}

/**
 * Loads an AR model. It is compiled when the first sequence begins.
 * @see https://detailflow.github.io/detailflow-ts/house/add-a-family.html
 */
export function createGroupTokenModel(options: GroupTokenModelOptions): GroupTokenModel {
  checkOptions('createTokenModel', options, {
    ...{ config: true, weights: true, backend: true, dtype: true, file: true, sampling: true },
  });
  return new GroupTokenModel(options);
}

/** The group-parallel transformer with an exact KV cache. Source: docs/method.md section 4. */
export class GroupTokenModel implements TokenModel {
  readonly config: GroupTransformerConfig;
  /** The first c tokens one by one, then groups. */
  readonly schedule: readonly number[];
  readonly guidances: { readonly gradual: Guidance };
  readonly sampling?: Partial<SamplingDefaults>;
  readonly #backend: Backend;
  readonly #weights: Weights;
  readonly #dtype: WeightDType | undefined;
  readonly #executable: LazyExecutable;
  readonly #pooled: LazyExecutable;
  /** Absent on devices whose states have no windows. */
  readonly openPool?: (options: TokenPoolOptions) => Promise<TokenPool>;
  /** Graphs that also choose, by what they are made for. */
  readonly #drawings = new Map<string, LazyExecutable>();

  /** @throws DetailFlowError `weights` when the weights do not fit the configuration */
  constructor({ config, weights, backend, dtype, file, sampling }: GroupTokenModelOptions) {
    validateWeights(weights, groupParameters(config), { file, ignore: ignoredGroupWeights });
    this.config = config;
    this.sampling = sampling;
    this.schedule = groupSchedule(config);
    this.guidances = { gradual: gradualGuidance(config) };
    this.#backend = backend;
    this.#weights = weights;
    this.#dtype = dtype;
    this.#executable = new LazyExecutable(() =>
      backend.compile(growingStepGraph(config), weights, { dtype }),
    );
    this.#pooled = new LazyExecutable(async () => {
      const { pooledStepGraph } = await import('./group-pool');
      return backend.compile(pooledStepGraph(config), weights, { dtype });
    });
    if (backend.stateWindows) {
      this.openPool = async (options) => {
        const { openGroupPool } = await import('./group-pool'); // what only servers need is loaded by them
        return openGroupPool(config, () => this.#pooled.get(), options);
      };
    }
  }

  get tokens(): number {
    return this.config.tokens;
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
    options.signal?.throwIfAborted();
    const labels = classLabels(conditions, this.classes);
    const executable = await this.#executable.get();
    const state = await executable.createState({ batch: labels.length, cache: this.tokens });
    return new CachedSession(this.config, executable, state, Int32Array.from(labels));
  }

  /** Whether drawing on the device is worth it: where reading logits back costs more than the draw. */
  get drawsOnDevice(): boolean {
    return this.#backend.name === 'webgpu';
  }

  async beginDrawing(conditions: readonly Condition[], options: DrawingOptions): Promise<DrawingSession> {
    checkOptions('beginDrawing', options, { isGuided: true, topK: true, isGreedy: true, signal: true });
    const { isGuided, topK = 0, isGreedy = false, signal } = options;
    signal?.throwIfAborted();
    const labels = classLabels(conditions, this.classes);
    const executable = await this.#drawing({
      ...{ isGuided, isGreedy, topK: topK < this.vocabularySize ? topK : 0 },
    }).get();
    const state = await executable.createState({ pictures: labels.length });
    return new DeviceDrawingSession({
      ...{ config: this.config, executable, state, labels, isGuided, isGreedy },
      unconditionalLabel: this.unconditional(),
    });
  }

  /** Frees what it holds on the device. */
  async dispose(): Promise<void> {
    await this.#executable.dispose();
    await this.#pooled.dispose();
    for (const executable of this.#drawings.values()) await executable.dispose();
  }

  #drawing(options: DrawGraphOptions): LazyExecutable {
    const key = JSON.stringify(options);
    const made =
      this.#drawings.get(key) ??
      new LazyExecutable(() =>
        this.#backend.compile(drawGraph(this.config, options), this.#weights, { dtype: this.#dtype }),
      );
    this.#drawings.set(key, made);
    return made;
  }
}

class CachedSession implements TokenSession {
  readonly #config: GroupTransformerConfig;
  readonly #executable: Executable;
  readonly #state: State;
  readonly #reach: ReturnType<typeof growingCache>;
  readonly #labels: Int32Array;
  #position = 0;
  /** Whether logits for the next tokens have been handed out. */
  #predicted = false;

  constructor(config: GroupTransformerConfig, executable: Executable, state: State, labels: Int32Array) {
    this.#config = config;
    this.#executable = executable;
    this.#state = state;
    this.#reach = growingCache(state, config.tokens);
    this.#labels = labels;
  }

  get position(): number {
    return this.#position;
  }

  get nextCount(): number {
    const { tokens, causalTokens, groupSize } = this.#config;
    if (this.#position >= tokens) return 0;
    return this.#position < causalTokens ? 1 : groupSize;
  }

  async predict(chosen: Int32Array | undefined, options: CallOptions = {}): Promise<Tensor<'float32'>> {
    checkOptions('predict', options, { signal: true });
    const { signal } = options;
    signal?.throwIfAborted();
    const known = this.#position;
    this.#take(chosen);
    const count = this.nextCount;
    if (count === 0) throw new DetailFlowError('invalid-argument', 'the sequences are complete');
    const { fed, kinds, positions } = this.#places(chosen);
    const feeds = {
      ids: new Tensor('int32', fed, [this.#labels.length, count]),
      kinds: new Tensor('int32', kinds, [count]),
      positions: new Tensor('int32', positions, [count]),
    };
    try {
      const cache = await this.#reach(this.#position + count);
      const { logits } = await this.#executable.run({ ...feeds, cache }, { state: this.#state, signal });
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
    const rows = this.#labels.length;
    const expected = this.#predicted ? rows * this.nextCount : 0;
    checkChosenTokens(chosen, { expected, vocabularySize: this.#config.vocabularySize });
    if (this.#predicted) this.#position += this.nextCount;
  }

  /** What the places of the next step are fed with, row by row. */
  #places(chosen: Int32Array | undefined): StepPlaces & { readonly fed: Int32Array } {
    const places = stepPlaces(this.#config, this.#position);
    const { count, kinds, ids } = places;
    const rows = this.#labels.length;
    const last = (chosen?.length ?? 0) / rows; // tokens of the previous step
    const fed = Int32Array.from({ length: rows * count }, (_, i) => {
      const [row, place] = [Math.floor(i / count), i % count];
      if (kinds[place] === PlaceKind.class) return this.#labels[row];
      return kinds[place] === PlaceKind.special ? ids[place] : (chosen as Int32Array)[row * last + place];
    });
    return { ...places, fed };
  }
}

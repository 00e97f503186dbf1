import {
  type CallOptions,
  checkOptions,
  DetailFlowError,
  type DrawingSession,
  type DrawingStep,
  type Executable,
  type State,
  Tensor,
  type Tensors,
} from '@detailflow/core';
import { DRAWN } from './draw-graph';
import type { GroupTransformerConfig } from './group-config';
import { PlaceKind } from './places';
import { stepPlaces } from './step-places';

interface SessionOptions {
  readonly config: GroupTransformerConfig;
  /** A `drawGraph`. */
  readonly executable: Executable;
  readonly state: State;
  /** Of the pictures; rows without class come after them. */
  readonly labels: readonly number[];
  readonly unconditionalLabel: number;
  readonly isGuided: boolean;
  readonly isGreedy: boolean;
}

/** Sequences whose tokens the device chooses and keeps. */
export class DeviceDrawingSession implements DrawingSession {
  readonly #options: SessionOptions;
  #position = 0;

  constructor(options: SessionOptions) {
    this.#options = options;
  }

  get position(): number {
    return this.#position;
  }

  get nextCount(): number {
    const { tokens, causalTokens, groupSize } = this.#options.config;
    if (this.#position >= tokens) return 0;
    return this.#position < causalTokens ? 1 : groupSize;
  }

  async draw(step: DrawingStep, options: CallOptions = {}): Promise<void> {
    checkOptions('draw', options, { signal: true });
    const { signal } = options;
    signal?.throwIfAborted();
    const count = this.nextCount;
    if (count === 0) throw new DetailFlowError('invalid-argument', 'the sequences are complete');
    const { executable, state } = this.#options;
    await executable.run({ ...this.#placeFeeds(), ...this.#choiceFeeds(step, count) }, { state, signal });
    this.#position += count;
  }

  async tokens(): Promise<Tensor<'int32'>> {
    const count = this.#position; // it may go on while the tokens are read
    const { data, dims } = await this.#options.state.read(DRAWN);
    const [pictures, width] = dims;
    const tokens = new Int32Array(pictures * count);
    for (let i = 0; i < pictures; i++) {
      tokens.set((data as Int32Array).subarray(i * width, i * width + count), i * count);
    }
    if (tokens.some((token) => token < 0 || token >= this.#options.config.vocabularySize)) {
      throw new DetailFlowError('runtime', 'the logits of the AR model are not finite');
    }
    return new Tensor('int32', tokens, [pictures, count]);
  }

  /** Frees what it holds on the device. */
  async dispose(): Promise<void> {
    await this.#options.state.dispose();
  }

  #placeFeeds(): Tensors {
    const { config, labels, unconditionalLabel, isGuided } = this.#options;
    const { count, kinds, positions, ids } = stepPlaces(config, this.#position);
    const all = isGuided ? [...labels, ...labels.map(() => unconditionalLabel)] : labels;
    const fixed = Int32Array.from({ length: all.length * count }, (_, i) =>
      kinds[i % count] === PlaceKind.class ? all[Math.floor(i / count)] : ids[i % count],
    );
    const isToken = [...kinds].map((kind) => kind === PlaceKind.token);
    return {
      fixed: new Tensor('int32', fixed, [all.length, count]),
      isFixed: new Tensor(
        'bool',
        Uint8Array.from(isToken, (token) => Number(!token)),
        [count],
      ),
      taken: new Tensor(
        'int32',
        ids.map((id, i) => (isToken[i] ? id : 0)),
        [count],
      ),
      kinds: new Tensor('int32', kinds, [count]),
      positions: new Tensor('int32', positions, [count]),
    };
  }

  #choiceFeeds({ noise, temperature = 1, scale = 1, given, isGiven }: DrawingStep, count: number): Tensors {
    const { config, labels, isGuided, isGreedy } = this.#options;
    const pictures = labels.length;
    if ((given?.length ?? 0) !== (given ? pictures * count : 0) || (isGiven?.length ?? count) !== count) {
      throw new DetailFlowError(
        'invalid-argument',
        `${given?.length ?? 0} tokens are given; the step has ${count} of each of ${pictures} pictures`,
      );
    }
    const size = pictures * count * config.vocabularySize;
    if (!isGreedy && noise?.length !== size) {
      throw new DetailFlowError(
        'invalid-argument',
        `the noise has ${noise?.length ?? 'no'} values, must have ${size}`,
      );
    }
    const scalar = (value: number) => new Tensor('float32', Float32Array.of(value), [1]);
    return {
      given: new Tensor('int32', given ?? new Int32Array(pictures * count), [pictures, count]),
      isGiven: new Tensor('bool', (given && isGiven) ?? new Uint8Array(count), [count]),
      ...(isGuided && { scale: scalar(scale) }),
      ...(!isGreedy && {
        temperature: scalar(temperature),
        noise: new Tensor('float32', noise as Float32Array, [pictures, count, config.vocabularySize]),
      }),
    };
  }
}

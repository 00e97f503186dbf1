import { growingCache } from '@detailflow/blocks';
import { type Executable, ofType, resizeMatrix, type State, Tensor, type Tensors } from '@detailflow/core';
import { POSITION_SIDE, type ScaleTransformerConfig } from './scale-transformer';
import { places, placesOf, type Scale, scaleStarts } from './scales';

/** What steps along the scales are made of. */
export interface ScaleStepperOptions {
  readonly config: ScaleTransformerConfig;
  /** A `growingScaleStepGraph`, with a state of as many places as the sequence has. */
  readonly step: Executable;
  readonly state: State;
  readonly labels: Int32Array;
  /** Codes that are never drawn. */
  readonly invalidCodes: readonly number[];
}

/** Logit of a code that is never drawn, as officially. */
const INVALID_LOGIT = -100;

/** Runs the transformer scale after scale; what a scale is fed with comes from outside. */
export class ScaleStepper {
  readonly #options: ScaleStepperOptions;
  readonly #reach: ReturnType<typeof growingCache>;

  constructor(options: ScaleStepperOptions) {
    this.#options = options;
    this.#reach = growingCache(options.state, placesOf(options.config.scales));
  }

  /** Logits float32 [rows, p, V] of scale k, from maps float32 [rows, p, z]; those of the first scale do not matter. */
  async logits(k: number, maps: Float32Array, signal?: AbortSignal): Promise<Tensor<'float32'>> {
    const { step, state, labels, invalidCodes, config } = this.#options;
    signal?.throwIfAborted();
    const end = scaleStarts(config.scales)[k] + places(config.scales[k]);
    const feeds = {
      ...stepPlaces(config, k),
      cache: await this.#reach(end),
      labels: new Tensor('int32', labels, [labels.length]),
      maps: new Tensor('float32', maps, [labels.length, places(config.scales[k]), config.codeDim]),
    };
    const logits = ofType((await step.run(feeds, { state, signal })).logits, 'float32');
    for (const code of invalidCodes) {
      for (let at = code; at < logits.data.length; at += config.vocabularySize) {
        logits.data[at] = INVALID_LOGIT;
      }
    }
    return logits;
  }

  /** Frees what it holds on the device. */
  async dispose(): Promise<void> {
    await this.#options.state.dispose();
  }
}

/** The feeds of a step that say which places are fed. */
function stepPlaces(config: ScaleTransformerConfig, k: number): Tensors {
  const { scales } = config;
  const [count, start, isFirst] = [places(scales[k]), scaleStarts(scales)[k], k === 0];
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
      ? { averages: positionAverages(scales[k]) }
      : { places: row((i) => start + i), levels: row(() => k) }),
  };
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

/** Feeds that place all scales at once, for `scaleForward`. */
export function allPlaces(config: Pick<ScaleTransformerConfig, 'scales'>): {
  readonly places: Int32Array;
  readonly levels: Int32Array;
  readonly isFirst: Uint8Array;
  readonly firstPlaces: Int32Array;
} {
  const { scales } = config;
  const length = placesOf(scales);
  const levels = Int32Array.from(scales.flatMap((scale, k) => Array<number>(places(scale)).fill(k)));
  return {
    places: Int32Array.from({ length }, (_, i) => i),
    levels,
    isFirst: Uint8Array.from(levels, (level) => Number(level === 0)),
    firstPlaces: Int32Array.from({ length }, (_, i) => (i < places(scales[0]) ? i : 0)),
  };
}

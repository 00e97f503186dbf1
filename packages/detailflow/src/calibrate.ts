import type { FamilyModel } from '@detailflow/checkpoint';
import {
  type Backend,
  type CallOptions,
  DetailFlowError,
  type Executable,
  type Weights,
} from '@detailflow/core';
import { type InputMoments, withInputMoments } from '@detailflow/onnx';
import { sampleTokens } from '@detailflow/sampler';
import { recommendedCfg } from './recommended-cfg';

/** Pictures that a model draws to measure what goes into its matrices. */
const PICTURES = 16;

/**
 * Lets a model draw pictures of its classes in float32, and measures what goes into the matrices of its transformer.
 * @throws DetailFlowError `unsupported` for a model that draws for texts: there are none here
 */
export async function calibrate(
  opened: FamilyModel,
  backend: Backend,
  { signal }: CallOptions = {},
): Promise<ReadonlyMap<string, readonly InputMoments[]>> {
  const { ar } = opened;
  if (!ar || ar.text || !opened.createTokenModel) {
    throw new DetailFlowError(
      'unsupported',
      'only a model that draws for classes can draw for itself; convert without calibration',
      { file: ar?.file ?? opened.tokenizer.file },
    );
  }
  const watch = new WatchingBackend(backend);
  const tokenizer = opened.createTokenizer({ backend });
  const model = opened.createTokenModel({ backend: watch, tokenizer });
  try {
    const classes = Math.max(1, ar.classes);
    const labels = Array.from({ length: PICTURES }, (_, i) => Math.floor((i * classes) / PICTURES) % classes);
    const cfg = recommendedCfg(opened.card);
    for await (const _ of sampleTokens({ model, labels, seed: 1, cfg, onDevice: false, signal }));
    return watch.moments;
  } finally {
    await model.dispose();
    await tokenizer.dispose();
  }
}

/** Runs what another backend runs, and adds up moments on the way. */
class WatchingBackend implements Backend {
  readonly name: string;
  readonly moments = new Map<string, InputMoments[]>();
  readonly #inner: Backend;

  constructor(inner: Backend) {
    this.#inner = inner;
    this.name = inner.name;
  }

  async compile(...[graph, weights]: [Parameters<Backend['compile']>[0], Weights]): Promise<Executable> {
    const watched = withInputMoments(graph);
    const inner = await this.#inner.compile(watched.graph, weights);
    return {
      createState: (dims) => inner.createState(dims),
      dispose: () => inner.dispose(),
      run: async (feeds, options) => {
        const results = await inner.run(feeds, options);
        for (const [name, windows] of watched.moments) {
          const sums = this.moments.get(name) ?? windows.map(emptyMoments);
          this.moments.set(name, sums);
          for (const [i, { output }] of windows.entries())
            add(sums[i].sums, results[output].data as Float32Array);
        }
        return Object.fromEntries([...graph.outputs.keys()].map((name) => [name, results[name]]));
      },
    };
  }

  createState(...args: Parameters<Backend['createState']>) {
    return this.#inner.createState(...args);
  }

  async close(): Promise<void> {}
  async [Symbol.asyncDispose](): Promise<void> {}
}

const emptyMoments = ({ first, count }: { first: number; count: number }): InputMoments => ({
  ...{ first, count },
  sums: new Float64Array(count ** 2),
});

function add(sums: Float64Array, values: Float32Array): void {
  for (let i = 0; i < sums.length; i++) sums[i] += values[i];
}

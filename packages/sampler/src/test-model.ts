import { Tensor, type TokenModel } from '@detailflow/core';
import { type SampleOptions, sampleTokens } from './generate';

/** What a fake model was asked to do. */
export interface Seen {
  rows: number[][];
  predictions: number;
  open: number;
}

/**
 * A model of 8 tokens in groups of 2 whose logits depend on the label, the place and all tokens before, row by row.
 * `fail` is called before each prediction.
 */
export function fakeModel(fail: (prediction: number) => void = () => {}): { model: TokenModel; seen: Seen } {
  const seen: Seen = { rows: [], predictions: 0, open: 0 };
  const [tokens, groupSize, causalTokens, vocabularySize, classes] = [8, 2, 2, 6, 3];
  const model: TokenModel = {
    tokens,
    schedule: [1, 1, 2, 2, 2],
    vocabularySize,
    classes,
    guidances: { falling: ({ index, steps }, cfg) => (cfg * (steps - index)) / steps },
    unconditional: () => classes,
    async begin(conditions) {
      const labels = conditions as number[];
      seen.rows.push([...labels]);
      seen.open++;
      const known = labels.map((): number[] => []);
      const count = () => (known[0].length < causalTokens ? 1 : groupSize);
      let predicted = 0;
      return {
        get position() {
          return known[0].length;
        },
        get nextCount() {
          return count();
        },
        async predict(chosen) {
          fail(seen.predictions++);
          const given = chosen?.length ?? 0;
          if (given !== predicted * labels.length) throw new Error(`${given} tokens of ${predicted} each`);
          for (const [row, list] of known.entries())
            list.push(...(chosen?.slice(row * predicted, (row + 1) * predicted) ?? []));
          predicted = count();
          const logits = labels.flatMap((label, row) =>
            Array.from({ length: predicted * vocabularySize }, (_, i) => {
              const past = known[row].reduce((sum, token, place) => sum + (token + 1) * (place + 2), 0);
              return 2 * Math.sin(5 * label + past + 3.7 * (known[row].length * vocabularySize + i));
            }),
          );
          return new Tensor('float32', Float32Array.from(logits), [labels.length, predicted, vocabularySize]);
        },
        async dispose() {
          seen.open--;
        },
      };
    },
    async dispose() {},
  };
  return { model, seen };
}

/** The values of a tensor of codes. */
export const numbers = (tensor: Tensor): number[] => Array.from(tensor.data as Int32Array);

/** The tokens of each sequence once all are drawn. */
export async function tokensOf(options: SampleOptions): Promise<number[][]> {
  let last: Tensor | undefined;
  for await (const step of sampleTokens(options)) last = await step.tokens();
  const { data, dims } = last as Tensor;
  return Array.from({ length: dims[0] }, (_, i) =>
    Array.from((data as Int32Array).subarray(i * dims[1], (i + 1) * dims[1])),
  );
}

/** Codes of the first places, a sequence each. */
export const prefixOf = (...rows: number[][]) =>
  new Tensor('int32', Int32Array.from(rows.flat()), [rows.length, rows[0].length]);

/** How many tokens are known after each step. */
export async function countsOf(options: Partial<SampleOptions>): Promise<number[]> {
  const counts: number[] = [];
  for await (const step of sampleTokens({ model: fakeModel().model, labels: [0], ...options }))
    counts.push(step.count);
  return counts;
}

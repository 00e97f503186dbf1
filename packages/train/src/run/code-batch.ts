import { RandomStream } from '@detailflow/core';
import type { VisitOrder } from '@detailflow/data';
import { Purpose } from '../purpose';
import type { CodeBatch } from '../token-model-trainer';
import type { CodeRows } from './code-store';

/** Where codes lie: see {@link CodeStore} and {@link OfficialCodes}. */
export interface CodeSource {
  readonly header: { readonly images: number; readonly views: number; readonly tokens: number };
  read(image: number, view: number): Promise<CodeRows>;
  close(): Promise<void>;
}

/** The codes of a batch: of every image one view, drawn by its position. */
export async function readBatch(
  store: CodeSource,
  options: {
    labels: Int32Array;
    order: VisitOrder;
    step: number;
    batch: number;
    seed: number;
    views: string;
  },
): Promise<CodeBatch> {
  const { labels, order, step, batch, seed } = options;
  const { tokens, views } = store.header;
  const random = new RandomStream({ seed, purpose: Purpose.cropChoice, position: step });
  const codes = {
    labels: new Int32Array(batch),
    clean: new Int32Array(batch * tokens),
    input: new Int32Array(batch * tokens),
    target: new Int32Array(batch * tokens),
  };
  for (const [i, image] of order.batch(step, batch).entries()) {
    const rows = await store.read(image, random.integer(views));
    codes.labels[i] = labels[image];
    for (const name of ['clean', 'input', 'target'] as const) codes[name].set(rows[name], i * tokens);
  }
  return codes;
}

import { RandomStream } from '@detailflow/core';
import type { ImageDataset, VisitOrder } from '@detailflow/data';
import type { Arrays } from '../initialise';
import { Purpose } from '../purpose';
import type { CodeBatch } from '../token-model-trainer';
import type { DataConfig } from '../training-config';
import type { CodeStore } from './code-store';

/** The codes of a batch: of every image one view, drawn by its position. */
export async function readBatch(
  store: CodeStore,
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

/** Says of which tokenizer, images and views codes are. */
export async function fingerprint(
  parameters: Arrays,
  dataset: ImageDataset,
  { fit, background, zoom, flip, augment, views }: DataConfig,
): Promise<string> {
  const sums = [...parameters.values()].map((values) =>
    values.reduce((sum, x, i) => sum + x * ((i % 97) + 1), 0),
  );
  const text = JSON.stringify([
    ...[sums, dataset.labels.length, dataset.classNames],
    ...[fit, background, views, views === 'varied' && [zoom, flip, augment]],
  ]);
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text));
  return Array.from(new Uint8Array(digest, 0, 16), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

import { DetailFlowError, Tensor } from '@detailflow/core';
import { pictureFromBytes } from '@detailflow/data';
import { bytesOf } from '@detailflow/eval';
import type { JobSpec, Json, ShardArray, ShardClient, ShardTask } from '@detailflow/queue';
import {
  type DrawnPictures,
  drawPictures,
  type PictureJob,
  type PictureList,
  pictureJobs,
} from '../draw-pictures';
import { resizedForEvaluation } from '../size-options';
import { asJson } from './model-identity';
import { software } from './software';
import type { WorkerModels } from './worker-models';

const GENERATE = 'generate';

/** What a worker is told. */
interface Drawing extends PictureList {
  readonly cfg: number;
  readonly tokens: number;
  readonly greedy: boolean;
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly guidance?: string;
  readonly interval?: number;
  /** Side at which all tokens are decoded; what they are worth if omitted. */
  readonly size?: number;
  /** To which that is then resized. */
  readonly evalSize?: number;
  /** Pictures of a shard, which are drawn together. */
  readonly batch: number;
}

/** Pictures that workers draw. */
export async function drawElsewhere(
  client: ShardClient,
  drawing: Drawing,
  options: { readonly model: Json; readonly hints: Json; readonly title: string },
): Promise<{ draw(jobs: readonly PictureJob[]): Promise<DrawnPictures>; finish(): Promise<void> }> {
  const { shardRanges } = await import('@detailflow/queue');
  const { model, hints, title } = options;
  const identity = { software: software(), model, drawing: asJson(drawing) };
  const spec: JobSpec = { kind: GENERATE, identity, hints, title };
  const job = await client.submit(spec, shardRanges(drawing.labels.length * drawing.count, drawing.batch));
  return {
    async draw(jobs) {
      const range = { first: jobs[0].index, count: jobs.length };
      const { images, tokens } = (await client.result(job, GENERATE, range)).arrays;
      const isSound =
        images?.data instanceof Uint8Array &&
        images.shape.length === 4 &&
        images.shape[3] === 3 &&
        tokens?.data instanceof Int32Array;
      if (!isSound) {
        throw new DetailFlowError(
          'shape',
          'a result does not hold pictures and tokens; remove it to have it made anew',
        );
      }
      await client.release(job, [range]);
      const [, height, width] = images.shape;
      const bytes = { data: images.data as Uint8Array, height, width };
      return {
        pictures: jobs.map((_, i) => pictureFromBytes(bytes, i)),
        tokens: new Tensor('int32', tokens.data as Int32Array, [...tokens.shape]),
      };
    },
    finish: () => client.finish(job),
  };
}

/** Draws pictures: arrays `images`, `labels` and `tokens`. */
export const generateTask = (models: WorkerModels): ShardTask => ({
  async prepare({ identity, hints }) {
    const { software: version, model: wanted, drawing } = identity as Record<string, Json>;
    requireSoftware(version);
    const { model, machine } = await models.open(wanted, hints);
    const { interval, guidance, batch: _, size: side, evalSize, ...rest } = drawing as unknown as Drawing;
    const { labels, count, seed, ...settings } = rest;
    const list = { labels, count, seed };
    return {
      machine,
      async run({ first, count: size }, { signal }) {
        if (first + size > labels.length * count) {
          throw new DetailFlowError('format', 'the shard lies outside the pictures of its job');
        }
        const jobs = pictureJobs(list, first, size);
        const rule = interval === undefined ? guidance : model.intervalGuidance(interval);
        for await (const step of drawPictures(model, jobs, { ...settings, guidance: rule, signal })) {
          if (step.count < step.total) continue;
          const { data, height, width } = bytesOf(
            resizedForEvaluation(await step.pixels({ size: side }), evalSize),
          );
          const tokens = await step.tokens();
          const arrays: Record<string, ShardArray> = {
            images: { data, shape: [size, height, width, 3] },
            labels: { data: Int32Array.from(jobs, ({ label }) => label), shape: [size] },
            tokens: { data: tokens.data as Int32Array, shape: [...tokens.dims] },
          };
          return { arrays };
        }
        throw new DetailFlowError('runtime', 'the sampler made no step');
      },
      async close() {}, // the model may serve the next job
    };
  },
});

/** Versions of the program may draw differently. @throws DetailFlowError `config` */
export function requireSoftware(version: Json): void {
  if (version === software()) return;
  throw new DetailFlowError(
    'config',
    `the job is of version ${String(version).slice(0, 40)} of the program, this worker is ${software()}; install the same everywhere`,
  );
}

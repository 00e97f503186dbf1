import { DetailFlowError } from '@detailflow/core';
import {
  BATCH,
  type ByteImages,
  type DrawnBatch,
  type DrawnElsewhere,
  type Extractor,
  type Features,
  generatedSource,
  type ImageSource,
  type PictureLabels,
  type SamplingOptions,
} from '@detailflow/eval';
import type { JobSpec, Json, ShardArray, ShardClient, ShardResult, ShardTask } from '@detailflow/queue';
import { requireSoftware } from './generate-task';
import { asJson } from './model-identity';
import { software } from './software';
import type { WorkerModels } from './worker-models';

const EVALUATE = 'eval-generation';

/** What a worker is told. */
interface Evaluation {
  /** Pictures of a row. */
  readonly count: number;
  readonly classes: number;
  readonly labels: PictureLabels;
  readonly sampling: SamplingOptions;
  /** Of every row guidance scale and seed of the first picture. */
  readonly rows: readonly { readonly cfg: number; readonly firstSeed: number }[];
  /** Side at which tokens are decoded, and to which that is then resized; what tokens are worth, and as it is, if omitted. */
  readonly size?: number;
  readonly evalSize?: number;
  /** Also hand over the pictures. */
  readonly pictures: boolean;
}

/** Pictures of an evaluation that workers draw and look at; their features are summed up by whoever asks for them. */
export function evaluationElsewhere(
  client: ShardClient,
  evaluation: Evaluation,
  options: {
    readonly model: Json;
    readonly hints: Json;
    readonly title: string;
    readonly extractor: Pick<Extractor, 'width' | 'spatialWidth' | 'classes'>;
    /** Of the pictures that are handed over. */
    readonly side: number;
  },
): DrawnElsewhere {
  const { model, hints, title, extractor, side } = options;
  const { count, pictures } = evaluation;
  const identity = { software: software(), model, evaluation: asJson(evaluation), batch: BATCH };
  const spec: JobSpec = { kind: EVALUATE, identity, hints, title };
  const rangeOf = ({ row, first, count: size }: DrawnBatch) => ({ first: row * count + first, count: size });
  let job = '';
  let asked: readonly DrawnBatch[] = [];
  const arraysOf = async (batch: DrawnBatch): Promise<ShardResult['arrays']> =>
    (await client.result(job, EVALUATE, rangeOf(batch))).arrays;
  return {
    async begin(batches) {
      asked = batches;
      job = await client.submit(spec, batches.map(rangeOf));
    },
    async features(batch) {
      const arrays = await arraysOf(batch);
      const { width, spatialWidth, classes } = extractor;
      const columns = {
        pool: width,
        logits: classes,
        ...(spatialWidth !== undefined && { spatial: spatialWidth }),
      };
      const found = Object.fromEntries(
        Object.entries(columns).map(([name, n]) => [name, floats(arrays, name, [batch.count, n])]),
      );
      if (!pictures) await client.release(job, [rangeOf(batch)]);
      return found as unknown as Features;
    },
    async pictures(batch): Promise<ByteImages> {
      const { images } = await arraysOf(batch);
      const shape = [batch.count, side, side, 3];
      if (!(images?.data instanceof Uint8Array) || images.shape.join() !== shape.join())
        throw misshapen('images', shape);
      return { data: images.data, count: batch.count, height: side, width: side };
    },
    async finish(row) {
      if (pictures) await client.release(job, asked.filter((one) => one.row === row).map(rangeOf));
      if (row === evaluation.rows.length - 1) await client.finish(job);
    },
  };
}

function floats(arrays: ShardResult['arrays'], name: string, shape: readonly number[]): Float32Array {
  const found = arrays[name];
  if (found?.data instanceof Float32Array && found.shape.join() === shape.join()) return found.data;
  throw misshapen(name, shape);
}

const misshapen = (entry: string, shape: readonly number[]) =>
  new DetailFlowError(
    'shape',
    `a result does not hold [${shape.join(', ')}] values; remove it to have it made anew`,
    {
      entry,
    },
  );

/** Draws pictures and computes their features: arrays `pool`, `logits`, maybe `spatial` and `images`. */
export const evaluationTask = (models: WorkerModels): ShardTask => ({
  async prepare({ identity, hints }) {
    const { software: version, model: wanted, evaluation } = identity as Record<string, Json>;
    requireSoftware(version);
    const { size: decoded, evalSize, ...asked } = evaluation as unknown as Evaluation;
    const { count, classes, labels, sampling, rows, pictures } = asked;
    const { model, extractor, machine } = await models.open(wanted, hints);
    const { tokenModel, tokenizer } = model;
    if (!tokenModel || !extractor) {
      throw new DetailFlowError(
        'unsupported',
        'the job needs a model with an AR part, and a feature network',
      );
    }
    const sources = new Map<number, ImageSource>();
    const sourceOf = (row: number): ImageSource => {
      const { cfg, firstSeed } = rows[row];
      const found =
        sources.get(row) ??
        generatedSource({
          ...{ ...sampling, model: tokenModel, tokenizer, count, classes, labels, cfg },
          ...{ seed: firstSeed, size: decoded, evalSize },
        });
      sources.set(row, found);
      return found;
    };
    return {
      machine,
      async run({ first, count: size }, { signal }) {
        const row = Math.floor(first / count);
        const at = first - row * count;
        if (row >= rows.length || at + size > count) {
          throw new DetailFlowError('format', 'the shard lies outside the pictures of its job');
        }
        const images = await sourceOf(row).read(at, size, { signal });
        const { pool, logits, spatial } = await extractor.extract(images, { signal });
        const array = (data: Float32Array): ShardArray => ({ data, shape: [size, data.length / size] });
        return {
          arrays: {
            ...{ pool: array(pool), logits: array(logits) },
            ...(spatial && { spatial: array(spatial) }),
            ...(pictures && { images: { data: images.data, shape: [size, images.height, images.width, 3] } }),
          },
        };
      },
      async close() {}, // the model may serve the next job
    };
  },
});

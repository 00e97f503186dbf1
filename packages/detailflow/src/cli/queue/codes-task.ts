import { DetailFlowError } from '@detailflow/core';
import type { SkippedImage } from '@detailflow/data';
import type { JobSpec, Json, PreparedTask, ShardClient, ShardTask } from '@detailflow/queue';
import { type CodesElsewhere, type CodesWork, openCodesWork } from '@detailflow/train/node';
import { isDetailFlow } from '../../detailflow-family';
import type { Invocation } from '../command';
import { requireSoftware } from './generate-task';
import { asJson } from './model-identity';
import { software } from './software';
import type { WorkerModels } from './worker-models';

const CODES = 'train-codes';

/** Where workers find the model whose tokenizer is used, and the images, unless they are told otherwise. */
interface Places {
  readonly model: string;
  readonly data: string;
}

/** Codes that workers make: tokens come back, and are written into the store of the run here. */
export function codesElsewhere(
  client: ShardClient,
  work: CodesWork,
  options: {
    readonly places: Places;
    /** Digest of all content of the model. */
    readonly stamp: string;
    readonly title: string;
  },
): CodesElsewhere {
  const { places, stamp, title } = options;
  const model: Json = { family: 'DetailFlow', stamps: { model: stamp }, settings: null };
  const { config, images, origin, views } = work;
  const { seed, data, tokenizer, tokenModel } = config;
  const identity = {
    ...{ software: software(), model, origin, views, images: asJson(images) },
    config: asJson({
      ...{ seed, data, tokenizer: { model: tokenizer.model } },
      tokenModel: { model: tokenModel.model, imageSize: tokenModel.imageSize },
    }),
  };
  const spec: JobSpec = { kind: CODES, identity, hints: { ...places }, title };
  const { codebookSize } = tokenizer.model;
  const { tokens } = tokenModel.model;
  let job = '';
  return {
    async begin(shards) {
      job = await client.submit(spec, shards);
    },
    async codes(first, count) {
      const range = { first, count };
      const { arrays, notes = [] } = await client.result(job, CODES, range);
      const { codes } = arrays;
      const isSound =
        codes?.data instanceof Int32Array &&
        codes.data.length === count * views * 3 * tokens &&
        codes.data.every((code) => code >= 0 && code < codebookSize);
      if (!isSound) {
        throw new DetailFlowError(
          'shape',
          'a result does not hold the codes of its images; remove it to have it made anew',
        );
      }
      await client.release(job, [range]);
      const skipped = notes.map((note): SkippedImage => JSON.parse(note));
      return { codes: Uint16Array.from(codes.data as Int32Array), skipped };
    },
    finish: () => client.finish(job),
  };
}

/** Encodes images: the array `codes`, a row of all views an image. */
export const codesTask = (models: WorkerModels, invocation: Invocation): ShardTask => ({
  async prepare({ identity, hints }): Promise<PreparedTask> {
    const { software: version, model: wanted, ...rest } = identity as Record<string, Json>;
    requireSoftware(version);
    const { config, images, origin, views } = rest as unknown as CodesWork;
    const said = hints as Partial<Record<keyof Places, unknown>>;
    const data = invocation.values.data ?? said.data;
    if (typeof data !== 'string')
      throw new DetailFlowError('format', 'the job does not say where its images are');
    const { opened, model, machine } = await models.open(wanted, { model: said.model });
    if (!isDetailFlow(opened)) {
      throw new DetailFlowError(
        'unsupported',
        `codes are made with tokenizers of DetailFlow, not of ${opened.family}`,
      );
    }
    const { config: settings, weights } = opened.tokenizer;
    const work = await openCodesWork({
      ...{ config, images, origin, views, data, backend: model.backend },
      tokenizer: { config: settings, weights },
    });
    return {
      machine,
      async run({ first, count }, { signal }) {
        if (first + count > images.images) {
          throw new DetailFlowError('format', 'the shard lies outside the images of its job');
        }
        const { codes, skipped } = await work.codes(first, count, { signal });
        const rows = { data: Int32Array.from(codes), shape: [count, codes.length / count] };
        return { arrays: { codes: rows }, notes: skipped.map((image) => JSON.stringify(image)) };
      },
      close: () => work.close(),
    };
  },
});

import type { Tensor } from '@detailflow/core';
import { readImages } from '@detailflow/data/node';
import { isDetailFlow } from '../detailflow-family';
import type { Model } from '../load';
import { type Command, deviceOptions, UsageError } from './command';
import { hasExtension, writeTensor } from './files';
import { BATCH, chunks, familyOptions, withModel } from './model-options';
import { backgroundOf, noPictures, pictureOptions } from './picture-options';
import { encodedSize, imageSizeOption } from './size-options';
import { joinRows, rowChunks } from './tensor-rows';
import { Values } from './values';

export const encodeCommand: Command = {
  name: 'encode',
  summary: 'turn pictures into tokens, or latents',
  usage: '--tokenizer DIR IMG... --out codes.npy [OPTIONS]',
  options: {
    ...familyOptions,
    ...imageSizeOption,
    tokens: {
      type: 'string',
      value: 'N',
      help: 'how many tokens (default: all that pictures of the size have)',
    },
    out: {
      type: 'string',
      value: 'FILE',
      help: 'int32 [B, n] as .npy; continuous latents: float32 [B, L, d]',
    },
    ...pictureOptions,
    ...deviceOptions,
  },
  examples: ['encode --model @detailflow/model-fashion-32 shirt.png boot.jpg --out codes.npy'],
  async run(invocation) {
    const { positionals: files, signal, progress } = invocation;
    const values = new Values(invocation);
    const background = backgroundOf(values);
    if (files.length === 0) throw new UsageError(noPictures);
    const out = values.required('out');
    if (!hasExtension(out, '.npy')) throw new UsageError(`--out "${out}" must end in .npy`);
    return withModel(invocation, 'tokenizer', async (opened, start) => {
      const { tokens: all } = opened.tokenizer;
      const wanted = encodedSize(values, opened);
      const { groupSize, causalTokens } = isDetailFlow(opened)
        ? opened.tokenizer.config
        : { groupSize: 1, causalTokens: 1 };
      const tokens = values.whole('tokens') ?? wanted.tokens;
      const least = Math.max(causalTokens, groupSize);
      if (tokens < least || tokens > all || tokens % groupSize !== 0) {
        throw new UsageError(`--tokens ${tokens}: give a multiple of ${groupSize} from ${least} to ${all}`);
      }
      const parts: Tensor<'int32' | 'float32'>[] = [];
      let model: Model | undefined;
      progress.start(files.length, 'files');
      for (const some of chunks(files, BATCH)) {
        const images = await readImages(some, wanted.size, { signal, background });
        model ??= await start();
        for (const rows of rowChunks(images, BATCH))
          parts.push(await encoded(model, rows, { tokens, all, signal }));
        progress.advance(some.length);
      }
      progress.stop();
      const codes = joinRows(parts);
      const [images, width] = codes.dims;
      await writeTensor(out, codes);
      const what = codes.type === 'int32' ? 'tokens' : `latents of ${codes.dims[2]}`;
      return {
        lines: [`${images} ${images === 1 ? 'image' : 'images'}, ${width} ${what} each: ${out}`],
        json: { out, shape: [...codes.dims], files },
      };
    });
  },
};

/** Codes, or latents where there are no codes, which have no order: a part of them stands for nothing. */
async function encoded(
  model: Model,
  images: Tensor<'float32'>,
  { tokens, all, signal }: { readonly tokens: number; readonly all: number; readonly signal: AbortSignal },
): Promise<Tensor<'int32' | 'float32'>> {
  if (model.hasCodes || !model.latents) return model.encode(images, { tokens, signal });
  if (tokens !== all) throw new UsageError(`--tokens ${tokens}: of latents all ${all} are written`);
  return model.latents.encodeLatents(images, { signal });
}

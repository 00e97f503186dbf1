import path from 'node:path';
import { type LatentTokenizer, pictureFromPixels, type Tensor } from '@detailflow/core';
import { isDetailFlow } from '../detailflow-family';
import { type Command, deviceOptions, UsageError } from './command';
import { hasExtension, pictureTarget, readCodes, readLatents, writePicture, writeTensor } from './files';
import { BATCH, familyOptions, withModel } from './model-options';
import { pictureScale, requireSheetFits, scaleOption } from './picture-scale';
import { joinRows, rowChunks } from './tensor-rows';
import { Values } from './values';

export const decodeCommand: Command = {
  name: 'decode',
  summary: 'turn tokens, or latents, into pictures',
  usage: '--tokenizer DIR codes.npy --out DIR|pixels.npy|FILE.png [OPTIONS]',
  options: {
    ...familyOptions,
    tokens: { type: 'string', value: 'T', help: 'use the first T tokens (default: all in the file)' },
    size: { type: 'string', value: 'PX', help: 'side of the pictures (default: the resolution of T tokens)' },
    ...scaleOption,
    out: {
      type: 'string',
      value: 'OUT',
      help: 'folder for PNG files, one .png, or float32 [B, 3, S, S] as .npy',
    },
    ...deviceOptions,
  },
  examples: [
    'decode --model @detailflow/model-fashion-32 codes.npy --out pictures/',
    'decode --model @detailflow/model-fashion-32 codes.npy --tokens 8 --size 32 --out pixels.npy',
  ],
  async run(invocation) {
    const { positionals, signal, progress } = invocation;
    const values = new Values(invocation);
    if (positionals.length !== 1) throw new UsageError('give one file of codes');
    const out = values.required('out');
    const asArray = hasExtension(out, '.npy');
    if (asArray && values.text('scale') !== undefined) {
      throw new UsageError('--scale is for pictures: an array is written as it is, see --size');
    }
    const scale = pictureScale(values);
    const single = !asArray && (await pictureTarget(out)) === 'file';
    return withModel(invocation, 'tokenizer', async (opened, start) => {
      const { tokenizer } = opened;
      const latentDim = opened.latentDim;
      const codes =
        latentDim === undefined
          ? await readCodes(positionals[0], tokenizer.codebookSize)
          : await readLatents(positionals[0], [tokenizer.tokens, latentDim]);
      const [images, given] = codes.dims;
      if (single && images !== 1) {
        throw new UsageError(`--out ${out} is one picture, the codes are ${images}: give a folder`);
      }
      const most = Math.min(given, tokenizer.tokens);
      const tokens = values.whole('tokens', { least: 1, most }) ?? most;
      if (latentDim !== undefined && (tokens !== most || values.text('size') !== undefined)) {
        throw new UsageError('--tokens, --size: latents have no order and give pictures of one size');
      }
      const patch = isDetailFlow(opened) ? opened.tokenizer.config.decoder.patchSize : 1;
      const size = values.whole('size', { least: patch, most: LARGEST_SIDE });
      if (size !== undefined && size % patch !== 0) {
        throw new UsageError(`--size ${size}: give a multiple of the patch size ${patch}`);
      }
      requireSheetFits(1, size ?? tokenizer.imageSize, scale);
      const model = await start();
      const files: string[] = [];
      const parts: Tensor<'float32'>[] = [];
      let side = 0;
      progress.start(images, 'images');
      for (const rows of rowChunks<'int32' | 'float32'>(codes, BATCH)) {
        const pixels =
          rows.type === 'int32'
            ? await model.decode(rows as Tensor<'int32'>, { tokens, size, signal })
            : await (model.latents as LatentTokenizer).decodeLatents(rows as Tensor<'float32'>, { signal });
        side = pixels.dims[2];
        if (asArray) parts.push(pixels);
        else {
          for (let i = 0; i < rows.dims[0]; i++) {
            const file = single ? out : path.join(out, `${String(files.length).padStart(4, '0')}.png`);
            await writePicture(file, pictureFromPixels(pixels, i), scale);
            files.push(file);
          }
        }
        progress.advance(rows.dims[0]);
      }
      progress.stop();
      if (asArray) {
        await writeTensor(out, joinRows(parts));
        files.push(out);
      }
      return {
        lines: [
          `${images} ${images === 1 ? 'image' : 'images'} of ${side} x ${side} from ${tokens} ${latentDim === undefined ? 'tokens' : 'latents'}: ${out}`,
        ],
        json: { out, files, shape: [images, 3, side, side], tokens },
      };
    });
  },
};

const LARGEST_SIDE = 65536;

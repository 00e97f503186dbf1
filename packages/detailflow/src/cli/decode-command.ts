import path from 'node:path';
import { pictureFromPixels, type Tensor } from '@detailflow/core';
import { type Command, deviceOptions, UsageError } from './command';
import { hasExtension, readCodes, writePicture, writeTensor } from './files';
import { BATCH, modelOptions, withModel } from './model-options';
import { joinRows, sliceRows } from './tensor-rows';

export const decodeCommand: Command = {
  name: 'decode',
  summary: 'turn tokens into pictures',
  usage: '--tokenizer DIR codes.npy --out DIR|pixels.npy|FILE.png [OPTIONS]',
  options: {
    ...modelOptions,
    tokens: { type: 'string', value: 'T', help: 'use the first T tokens (default: all in the file)' },
    size: { type: 'string', value: 'PX', help: 'side of the pictures (default: the resolution of T tokens)' },
    out: {
      type: 'string',
      value: 'OUT',
      help: 'folder for PNG files, one .png, or float32 [B, 3, S, S] as .npy',
    },
    ...deviceOptions,
  },
  examples: [
    'decode --tokenizer models/fashion-ref/tokenizer codes.npy --out pictures/',
    'decode --tokenizer models/fashion-ref/tokenizer codes.npy --tokens 8 --size 32 --out pixels.npy',
  ],
  run: (invocation) =>
    withModel(invocation, 'tokenizer', async (model, values) => {
      const { positionals, signal, progress } = invocation;
      if (positionals.length !== 1) throw new UsageError('give one file of codes');
      const out = values.required('out');
      const codes = await readCodes(positionals[0]);
      const [images, given] = codes.dims;
      const tokens = values.whole('tokens', 1) ?? given;
      const size = values.whole('size', 1);
      if (hasExtension(out, '.png') && images !== 1)
        throw new UsageError(`--out ${out} is one picture, the codes are ${images}: give a folder`);
      const parts: Tensor[] = [];
      progress.start(images, 'images');
      for (let first = 0; first < images; first += BATCH) {
        const rows = sliceRows(codes, first, Math.min(BATCH, images - first));
        parts.push(await model.decode(rows, { tokens, size, signal }));
        progress.advance(rows.dims[0]);
      }
      progress.stop();
      const pixels = joinRows(parts);
      const files = await write(pixels, out);
      return {
        lines: [
          `${images} ${images === 1 ? 'image' : 'images'} of ${pixels.dims[2]} x ${pixels.dims[3]} from ${tokens} tokens: ${out}`,
        ],
        json: { out, files, shape: pixels.dims, tokens },
      };
    }),
};

async function write(pixels: Tensor, out: string): Promise<string[]> {
  if (hasExtension(out, '.npy')) {
    await writeTensor(out, pixels);
    return [out];
  }
  const files = Array.from({ length: pixels.dims[0] }, (_, i) =>
    hasExtension(out, '.png') ? out : path.join(out, `${String(i).padStart(4, '0')}.png`),
  );
  for (const [i, file] of files.entries()) await writePicture(file, pictureFromPixels(pixels, i));
  return files;
}

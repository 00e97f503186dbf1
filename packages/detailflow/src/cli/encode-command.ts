import { Tensor } from '@detailflow/core';
import { readImages } from '../image-io';
import { type Command, deviceOptions, UsageError } from './command';
import { hasExtension, writeTensor } from './files';
import { BATCH, chunks, modelOptions, withModel } from './model-options';
import { joinRows, sliceRows } from './tensor-rows';

export const encodeCommand: Command = {
  name: 'encode',
  summary: 'turn pictures into tokens',
  usage: '--tokenizer DIR IMG... --out codes.npy [OPTIONS]',
  options: {
    ...modelOptions,
    tokens: { type: 'string', value: 'N', help: 'how many tokens (default: all)' },
    out: { type: 'string', value: 'FILE', help: 'int32 [B, n] as .npy' },
    ...deviceOptions,
  },
  examples: ['encode --tokenizer models/fashion-ref/tokenizer shirt.png boot.jpg --out codes.npy'],
  run: (invocation) =>
    withModel(invocation, 'tokenizer', async (model, values) => {
      const { positionals: files, signal, progress } = invocation;
      if (files.length === 0) throw new UsageError('give at least one picture (png, jpeg, webp or .npy)');
      const out = values.required('out');
      if (!hasExtension(out, '.npy')) throw new UsageError(`--out "${out}" must end in .npy`);
      const tokens = values.whole('tokens', 1) ?? model.tokenizer.tokens;
      const parts: Tensor[] = [];
      progress.start(files.length, 'files');
      for (const some of chunks(files, BATCH)) {
        const { data, dims } = await readImages(some, model.tokenizer.imageSize, { signal });
        const images = new Tensor('float32', data, dims);
        for (let first = 0; first < dims[0]; first += BATCH) {
          parts.push(
            await model.encode(sliceRows(images, first, Math.min(BATCH, dims[0] - first)), {
              tokens,
              signal,
            }),
          );
        }
        progress.advance(some.length);
      }
      progress.stop();
      const codes = joinRows(parts);
      const [images] = codes.dims;
      await writeTensor(out, codes);
      return {
        lines: [`${images} ${images === 1 ? 'image' : 'images'}, ${tokens} tokens each: ${out}`],
        json: { out, shape: [images, tokens], files },
      };
    }),
};

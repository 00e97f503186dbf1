import path from 'node:path';
import { pictureFromPixels } from '@detailflow/core';
import { stripPicture } from '@detailflow/data';
import { readImages } from '@detailflow/data/node';
import type { Model, Reconstruction } from '../load';
import { type Command, deviceOptions, UsageError } from './command';
import { pictureTarget, stem, writePicture } from './files';
import { BATCH, familyOptions, withModel } from './model-options';
import { backgroundOf, noPictures, pictureOptions } from './picture-options';
import { pictureScale, requireSheetFits, scaleOption } from './picture-scale';
import { encodedSize, imageSizeOption } from './size-options';
import { rowChunks } from './tensor-rows';
import { Values } from './values';

export const reconstructCommand: Command = {
  name: 'reconstruct',
  summary: 'draw pictures again from ever more of their tokens',
  usage: '--tokenizer DIR IMG... --out DIR [OPTIONS]',
  options: {
    ...familyOptions,
    ...imageSizeOption,
    tokens: {
      type: 'string',
      value: 'LIST',
      help: 'token counts, such as 1,8,32 (default: 1, 2, 4 ... all, or every scale, or quarters)',
    },
    ...scaleOption,
    out: { type: 'string', value: 'DIR', help: 'one strip per picture: coarse to fine, the original last' },
    ...pictureOptions,
    ...deviceOptions,
  },
  examples: [
    'reconstruct --model @detailflow/model-fashion-32 boot.png --tokens 1,8,32 --scale 4 --out strips/',
  ],
  async run(invocation) {
    const { positionals: files, signal, progress } = invocation;
    const values = new Values(invocation);
    const background = backgroundOf(values);
    if (files.length === 0) throw new UsageError(noPictures);
    const out = values.required('out');
    if ((await pictureTarget(out)) === 'file')
      throw new UsageError(`--out "${out}": give a folder, one strip per picture`);
    const tokens = values.list('tokens');
    const scale = pictureScale(values);
    return withModel(invocation, 'tokenizer', async (opened, start) => {
      const { previews, previewCounts } = opened.tokenizer;
      const { size, tokens: all } = encodedSize(values, opened);
      const wrong = tokens?.find((count) => count < 1 || count > all);
      if (wrong !== undefined) throw new UsageError(`--tokens ${wrong}: give numbers from 1 to ${all}`);
      if (previews === 'none' && tokens?.some((count) => count !== all)) {
        throw new UsageError(`--tokens: without an order a picture needs all ${all}`);
      }
      const strips = 1 + (tokens?.length ?? previewCounts.length);
      requireSheetFits(strips, size, scale);
      const lines: string[] = [];
      const images: Readonly<Record<string, unknown>>[] = [];
      const names = new Set<string>();
      let model: Model | undefined;
      progress.start(files.length, 'files');
      for (const file of files) {
        const all = await readImages([file], size, { signal, background });
        model ??= await start();
        let index = 0;
        for (const originals of rowChunks(all, BATCH)) {
          const steps: Reconstruction[] = [];
          for await (const step of model.reconstruct(originals, { tokens, signal })) steps.push(step);
          for (let i = 0; i < originals.dims[0]; i++, index++) {
            const name = unique(all.dims[0] === 1 ? stem(file) : `${stem(file)}-${index}`, names);
            const strip = path.join(out, `${name}.png`);
            const previews = steps.map(({ pixels }) => pictureFromPixels(pixels, i));
            await writePicture(strip, stripPicture([...previews, pictureFromPixels(originals, i)]), scale);
            const psnr = steps.map((step) => ({
              tokens: step.tokens,
              resolution: step.resolution,
              psnr: step.psnr[i],
            }));
            const figures = psnr.map((one) => `${one.psnr.toFixed(2)} dB at ${one.tokens}`);
            lines.push(`${strip}: PSNR ${figures.join(', ')} tokens`);
            images.push({ file, strip, steps: psnr });
          }
        }
        progress.advance();
      }
      progress.stop();
      return { lines, json: { out, images } };
    });
  },
};

/** A file name that no other strip of this call has. */
function unique(name: string, taken: Set<string>): string {
  let candidate = name;
  for (let n = 2; taken.has(candidate); n++) candidate = `${name}-${n}`;
  taken.add(candidate);
  return candidate;
}

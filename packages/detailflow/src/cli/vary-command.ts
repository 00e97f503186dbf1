import path from 'node:path';
import { DetailFlowError, type Picture, pictureFromPixels } from '@detailflow/core';
import { stripPicture } from '@detailflow/data';
import { readImages } from '@detailflow/data/node';
import { classLabels } from './class-labels';
import { type Command, deviceOptions, UsageError } from './command';
import { pictureTarget, stem, writePicture } from './files';
import { familyOptions, withModel } from './model-options';
import { backgroundOf, noPictures, pictureOptions } from './picture-options';
import { pictureScale, requireSheetFits, scaleOption } from './picture-scale';
import { pictureSize, pictureSizeOptions, requireSquare, resizedForEvaluation } from './size-options';
import { Values } from './values';

const MOST_VARIATIONS = 1000;

export const varyCommand: Command = {
  name: 'vary',
  summary: 'keep the first tokens of a picture and draw the rest anew',
  usage: '--model DIR IMG... --keep K --out FILE.png|DIR [OPTIONS]',
  options: {
    ...familyOptions,
    keep: { type: 'string', value: 'K', help: 'tokens that stay: 0 is a new picture, all of them the same' },
    count: { type: 'string', value: 'N', help: 'variations of each picture (default 4)' },
    class: { type: 'string', value: 'C', help: 'class number or name to go by (default: none)' },
    seed: { type: 'string', value: 'S', help: 'seed of the first variation (default 0)' },
    cfg: {
      type: 'string',
      value: 'X',
      help: 'guidance scale where a class is given (default: as generate)',
    },
    ...pictureSizeOptions,
    ...scaleOption,
    out: { type: 'string', value: 'OUT', help: 'strips with the original first: a .png file, or a folder' },
    ...pictureOptions,
    ...deviceOptions,
  },
  examples: [
    'vary --model @detailflow/model-fashion-32 boot.png --keep 8 --count 6 --class 9 --out boots.png',
  ],
  async run(invocation) {
    const { positionals: files, signal, progress } = invocation;
    const values = new Values(invocation);
    const background = backgroundOf(values);
    if (files.length === 0) throw new UsageError(noPictures);
    const out = values.required('out');
    const isFile = (await pictureTarget(out)) === 'file';
    if (isFile && files.length > 1) throw new UsageError('one file takes one picture: give a folder');
    const count = values.whole('count', { least: 1, most: MOST_VARIATIONS }) ?? 4;
    const seed = values.whole('seed', { most: 2 ** 48 }) ?? 0;
    const given = values.number('cfg', { least: 0 });
    const scale = pictureScale(values);
    const text = values.text('class');
    if (given !== undefined && text === undefined) {
      throw new UsageError('--cfg guides towards --class: give that, too');
    }
    values.required('keep');
    return withModel(invocation, 'both', async (opened, start) => {
      const { ar, tokenizer, card } = opened;
      requireSquare(opened, 'pictures to vary are cut square');
      const sizes = pictureSize(values, opened);
      const side = sizes.evalSize ?? sizes.size ?? opened.pictureSize;
      const { tokens } = ar ?? tokenizer;
      if (ar?.text) {
        throw new DetailFlowError(
          'unsupported',
          'draws for texts: variations are of models that draw for classes',
          {
            file: ar.file,
          },
        );
      }
      const keepTokens = values.whole('keep', { most: tokens }) as number;
      const [label, ...others] = text && ar ? classLabels(text, ar.classes, card?.classNames) : [];
      if (others.length > 0) throw new UsageError(`--class "${text}": give one class`);
      requireSheetFits(count + 1, Math.max(side, opened.pictureSize), scale);
      const model = await start();
      const cfg = given ?? model.cfg;
      const lines: string[] = [];
      const names = new Set<string>();
      progress.start(files.length, 'files');
      for (const file of files) {
        const originals = await readImages([file], opened.pictureSize, { signal, background });
        const [batch] = originals.dims;
        const labels = label === undefined ? undefined : Array(batch).fill(label);
        let drawn: Picture[] = [];
        for await (const step of model.vary(originals, { keepTokens, count, labels, seed, cfg, signal })) {
          if (step.count < step.total) continue;
          const pixels = resizedForEvaluation(await step.pixels({ size: sizes.size }), sizes.evalSize);
          drawn = Array.from({ length: batch * count }, (_, i) => pictureFromPixels(pixels, i));
        }
        for (let i = 0; i < batch; i++) {
          const name = batch === 1 ? stem(file) : `${stem(file)}-${i}`;
          if (names.has(name)) throw new UsageError(`two pictures would be written as ${name}.png`);
          names.add(name);
          const target = isFile ? out : path.join(out, `${name}.png`);
          const variations = drawn.slice(i * count, (i + 1) * count);
          await writePicture(target, stripPicture([pictureFromPixels(originals, i), ...variations]), scale);
          lines.push(`${target}: ${count} variations that keep ${keepTokens} of ${tokens} tokens`);
        }
        progress.advance();
      }
      progress.stop();
      return { lines, json: { out, keepTokens, count } };
    });
  },
};

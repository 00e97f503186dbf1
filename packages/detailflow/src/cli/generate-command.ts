import path from 'node:path';
import { type Picture, pictureFromPixels, type Tensor } from '@detailflow/core';
import type { GenerationStep } from '@detailflow/sampler';
import { gridPicture, stripPicture } from '../contact-sheet';
import type { Model } from '../load';
import { type Command, deviceOptions, type Invocation, UsageError } from './command';
import { hasExtension, readNoise, writePicture, writeTensor } from './files';
import { BATCH, chunks, modelOptions, withModel } from './model-options';
import { joinRows, sliceRows } from './tensor-rows';
import { parseList, type Values } from './values';

/** One picture to draw. */
interface Job {
  readonly index: number;
  readonly label: number;
  readonly seed: number;
}

export const generateCommand: Command = {
  name: 'generate',
  summary: 'draw pictures of a class',
  usage: '(--model DIR | --tokenizer DIR --ar DIR) --class LIST --out FILE.png|DIR [OPTIONS]',
  options: {
    ...modelOptions,
    class: {
      type: 'string',
      value: 'LIST',
      help: 'class numbers (3 or 3,7 or 0-9), or a class name of the bundle',
    },
    count: { type: 'string', value: 'N', help: 'pictures of each class (default 1)' },
    seed: { type: 'string', value: 'S', help: 'seed of the first picture; picture i uses S + i (default 0)' },
    cfg: { type: 'string', value: 'X', help: 'guidance scale, 1 for none (default 1.5)' },
    'gradual-cfg': { type: 'boolean', help: 'lower the guidance scale group by group' },
    temperature: { type: 'string', value: 'X', help: 'above 0 (default 1)' },
    'top-k': { type: 'string', value: 'N', help: 'draw among the N most likely tokens (default 0: all)' },
    'top-p': {
      type: 'string',
      value: 'X',
      help: 'draw among the most likely tokens of total probability X (default 1)',
    },
    greedy: { type: 'boolean', help: 'always take the most likely token' },
    tokens: { type: 'string', value: 'N', help: 'stop after N tokens: a coarser, smaller picture' },
    progressive: { type: 'boolean', help: 'draw a strip of all previews of each picture, coarse to fine' },
    grid: { type: 'boolean', help: 'put all pictures into one file, one row per class' },
    noise: {
      type: 'string',
      value: 'FILE',
      help: 'float32 [B, N, V] Exp(1) draws instead of the seed (.npy)',
    },
    'save-tokens': { type: 'string', value: 'FILE', help: 'also write the tokens, int32 [B, n] (.npy)' },
    out: { type: 'string', value: 'OUT', help: 'a .png file, or a folder' },
    ...deviceOptions,
  },
  examples: [
    'generate --model models/fashion-ref --class 9 --out boot.png',
    'generate --model models/fashion-ref --class 0-9 --count 4 --cfg 2 --grid --out grid.png',
    'generate --model models/fashion-ref --class 3,7 --progressive --out pictures/',
  ],
  run: (invocation) => withModel(invocation, 'both', (model, values) => run(model, values, invocation)),
};

async function run(model: Model, values: Values, { signal, progress }: Invocation) {
  const labels = classLabels(values.required('class'), model);
  const count = values.whole('count', 1) ?? 1;
  const seed = values.whole('seed') ?? 0;
  const out = values.required('out');
  const jobs = labels
    .flatMap((label) => Array.from({ length: count }, () => label))
    .map((label, index): Job => ({ index, label, seed: seed + index }));
  const single = hasExtension(out, '.png');
  if (single && jobs.length > 1 && !values.flag('grid')) {
    throw new UsageError(`${jobs.length} pictures do not go into ${out}: add --grid, or give a folder`);
  }
  if (values.flag('grid') && !single) throw new UsageError('--grid makes one file: give --out FILE.png');
  const noiseFile = values.text('noise');
  const noise = noiseFile === undefined ? undefined : await readNoise(noiseFile);
  if (noise && noise.dims[0] !== jobs.length) {
    throw new UsageError(`--noise holds draws for ${noise.dims[0]} pictures, ${jobs.length} are to be drawn`);
  }
  const settings = {
    cfg: values.number('cfg'),
    gradualCfg: values.flag('gradual-cfg'),
    temperature: values.number('temperature'),
    topK: values.whole('top-k'),
    topP: values.number('top-p'),
    greedy: values.flag('greedy'),
    tokens: values.whole('tokens', 1),
  };
  const saveTokens = values.text('save-tokens');
  const progressive = values.flag('progressive');

  const started = performance.now();
  const pictures: Picture[] = [];
  const codes: Tensor[] = [];
  progress.start(jobs.length * (settings.tokens ?? model.tokenizer.tokens), 'tokens');
  for (const batch of chunks(jobs, BATCH)) {
    const steps = model.generate({
      ...settings,
      labels: batch.map((job) => job.label),
      seed: batch.map((job) => job.seed),
      noise: noise && sliceRows(noise, batch[0].index, batch.length),
      signal,
    });
    const previews: Picture[][] = batch.map(() => []);
    let last: GenerationStep | undefined;
    for await (const step of steps) {
      progress.advance(batch.length * (step.count - (last?.count ?? 0)));
      last = step;
      if (progressive || step.count === step.total) {
        const pixels = await step.pixels();
        for (const [i, list] of previews.entries()) list.push(pictureFromPixels(pixels, i));
      }
    }
    pictures.push(...previews.map((list) => (progressive ? stripPicture(list) : list[0])));
    codes.push(await (last as GenerationStep).tokens());
  }
  progress.stop();
  const seconds = (performance.now() - started) / 1000;

  const files = await writePictures(pictures, jobs, out, single, progressive ? 1 : count);
  const tokens = joinRows(codes);
  if (saveTokens !== undefined) await writeTensor(saveTokens, tokens);
  return {
    lines: [
      `${jobs.length} ${jobs.length === 1 ? 'picture' : 'pictures'} in ${seconds.toFixed(2)} s: ${out}`,
    ],
    json: {
      out,
      seconds,
      device: model.backend.name,
      tokensPerImage: tokens.dims[1],
      ...(saveTokens !== undefined && { tokens: saveTokens }),
      images: jobs.map(({ label, seed }, i) => ({
        file: files[i],
        class: label,
        name: model.card?.classNames?.[label],
        seed,
      })),
    },
  };
}

async function writePictures(
  pictures: readonly Picture[],
  jobs: readonly Job[],
  out: string,
  single: boolean,
  columns: number,
): Promise<string[]> {
  if (single) {
    await writePicture(out, pictures.length === 1 ? pictures[0] : gridPicture(pictures, { columns }));
    return pictures.map(() => out);
  }
  const files = jobs.map(({ index, label, seed }) =>
    path.join(out, `${String(index).padStart(4, '0')}-class${label}-seed${seed}.png`),
  );
  for (const [i, file] of files.entries()) await writePicture(file, pictures[i]);
  return files;
}

/** Class numbers of "3", "3,7", "0-9", or of a name that the bundle's card lists. */
function classLabels(text: string, model: Model): number[] {
  const classes = model.tokenModel?.classes ?? 0;
  const names = model.card?.classNames;
  const named = names?.findIndex((name) => name.toLowerCase() === text.trim().toLowerCase()) ?? -1;
  if (named >= 0) return [named];
  if (!/^[\d\s,-]+$/.test(text)) {
    throw new UsageError(
      names
        ? `there is no class "${text}": ${names.join(', ')}`
        : `--class "${text}": this model has no class names, give numbers 0-${classes - 1}`,
    );
  }
  const labels = parseList(text, '--class');
  const wrong = labels.find((label) => label > classes);
  if (wrong !== undefined)
    throw new UsageError(`--class ${wrong}: the classes are 0-${classes - 1}, and ${classes} for none`);
  return labels;
}

import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { writeFileAtomically } from '@detailflow/checkpoint/node';
import { DetailFlowError, type Picture } from '@detailflow/core';
import {
  gridPicture,
  type ImageDataset,
  pictureFromBytes,
  upscaleNearest,
  type ViewOptions,
} from '@detailflow/data';
import { openDataset } from '@detailflow/data/node';
import {
  type ByteImages,
  type Comparison,
  classAgreement,
  compareFeatures,
  datasetSource,
  type Extractor,
  type FeatureSet,
  generatedSource,
  type ImageSource,
  nearestNeighbours,
  previewCounts,
  reconstructionSource,
  tokenizerFigures,
} from '@detailflow/eval';
import { fileStamp, keptFeatures, openExtractor } from '@detailflow/eval/node';
import type { Model } from '../load';
import { type Command, deviceOptions, type Invocation, type Report, UsageError } from './command';
import { modelOptions, withModel } from './model-options';
import { parseList, Values } from './values';

export const evalCommand: Command = {
  name: 'eval',
  summary: 'measure a tokenizer, or generated pictures, against real ones',
  usage: '(tokenizer | generation) --model DIR --data SOURCE --out DIR [--features FILE] [OPTIONS]',
  options: {
    ...modelOptions,
    data: {
      type: 'string',
      value: 'SOURCE',
      help: 'real images, as for train; the held-out part is measured',
    },
    out: {
      type: 'string',
      value: 'DIR',
      help: 'folder for results.json, report.html and what is kept to go on',
    },
    features: {
      type: 'string',
      value: 'FILE',
      help: 'feature network: pt_inception-2015-12-05-*.pth, or a classifier .safetensors',
    },
    fit: { type: 'string', value: 'F', help: 'crop (default) or pad: how images are made square' },
    images: { type: 'string', value: 'N', help: 'real images that are used (default all)' },
    tokens: {
      type: 'string',
      value: 'LIST',
      help: 'numbers of tokens to restore from (default 1, 2, 4, ... all)',
    },
    count: { type: 'string', value: 'N', help: 'pictures that are generated (default 10000)' },
    cfg: { type: 'string', value: 'LIST', help: 'guidance scales, such as 1,1.5,2 (default 1.5)' },
    'gradual-cfg': { type: 'boolean', help: 'lower the guidance scale group by group' },
    temperature: { type: 'string', value: 'X', help: 'above 0 (default 1)' },
    'top-k': { type: 'string', value: 'N', help: 'draw among the N most likely tokens (default 0: all)' },
    'top-p': { type: 'string', value: 'X', help: 'draw among the most likely tokens of total probability X' },
    seed: { type: 'string', value: 'S', help: 'seed of the first picture (default 0)' },
    train: {
      type: 'boolean',
      help: 'also compare the training images: the floor, and the nearest neighbours',
    },
    ...deviceOptions,
  },
  examples: [
    'eval tokenizer --model runs/fashion/bundle --data fashion-mnist/ --fit pad --out runs/eval',
    'eval generation --model DIR --data imagenet/ --features pt_inception-2015-12-05.pth --cfg 1,1.5 --out runs/eval',
  ],
  async run(invocation) {
    const [what, ...others] = invocation.positionals;
    if ((what !== 'tokenizer' && what !== 'generation') || others.length > 0) {
      throw new UsageError('say what to measure: tokenizer or generation');
    }
    const values = new Values(invocation);
    const out = values.required('out');
    const data = values.required('data');
    const features = values.text('features');
    if (what === 'generation' && features === undefined) {
      throw new UsageError('--features is missing: generated pictures are compared by a network');
    }
    return withModel(invocation, what === 'generation' ? 'both' : 'tokenizer', async (opened, start) => {
      const { imageSize: size } = opened.tokenizer.config;
      const fit = values.choice('fit', ['crop', 'pad'] as const) ?? 'crop';
      const sets = await openDataset(data, { heldOut: 0.05, seed: 0 });
      await mkdir(out, { recursive: true });
      const paths = ['model', 'tokenizer', 'ar'].map((name) => values.text(name));
      const origin = await fileStamp([...paths, data, features].filter((one) => one !== undefined));
      const model = await start();
      const extractor = features === undefined ? undefined : await openExtractor(features, model.backend);
      try {
        const run = new Evaluation(invocation, values, model, { size, fit }, sets, extractor, out, origin);
        const results = what === 'tokenizer' ? await run.tokenizer() : await run.generation();
        const text = `${JSON.stringify(results.json, undefined, 2)}\n`;
        const name = path.join(out, `${what}.json`);
        await writeFileAtomically(name, (write) => write(new TextEncoder().encode(text)));
        return { ...results, lines: [...results.lines, `results: ${name}`] };
      } finally {
        await extractor?.dispose();
      }
    });
  },
};

type View = Pick<ViewOptions, 'size' | 'fit'>;

class Evaluation {
  constructor(
    private readonly invocation: Invocation,
    private readonly values: Values,
    private readonly model: Model,
    private readonly view: View,
    private readonly sets: { readonly train: ImageDataset; readonly heldOut: ImageDataset },
    private readonly extractor: Extractor | undefined,
    private readonly out: string,
    /** Says of which model, data and network kept features are. */
    private readonly origin: string,
  ) {}

  /** PSNR and SSIM by number of tokens, use of the codebook, and with a network rFID. */
  async tokenizer(): Promise<Report> {
    const { model, view, values, invocation } = this;
    const { tokenizer } = model;
    const dataset = this.sets.heldOut;
    const text = values.text('tokens');
    const counts = text === undefined ? previewCounts(tokenizer.config) : parseList(text, '--tokens');
    const images = values.whole('images', { least: 1 });
    const figures = await this.#counting('images', (onProgress) =>
      tokenizerFigures({ tokenizer, dataset, view, counts, images, signal: invocation.signal, onProgress }),
    );
    let frechet: Record<string, number> | undefined;
    if (this.extractor) {
      const real = await this.#features(datasetSource(dataset, view));
      frechet = {};
      for (const tokens of counts) {
        const restored = await this.#features(reconstructionSource(dataset, view, { tokenizer, tokens }));
        frechet[tokens] = (await this.#compare(restored, real)).frechet;
      }
    }
    return {
      lines: [
        `${figures.images} images`,
        `tokens   PSNR dB   SSIM    ${frechet ? 'Frechet' : ''}`.trimEnd(),
        ...figures.byTokens.map(({ tokens, psnr, ssim }) =>
          `${String(tokens).padStart(6)}   ${psnr.toFixed(2).padStart(7)}   ${ssim.toFixed(4)}  ${frechet ? frechet[tokens].toFixed(3) : ''}`.trimEnd(),
        ),
        `codebook in use: ${(100 * figures.usage).toFixed(1)} %, perplexity ${figures.perplexity.toFixed(0)}`,
      ],
      json: { ...figures, ...(frechet && { frechet }) },
    };
  }

  /** Every figure at every guidance scale, the floor, and the nearest neighbours. */
  async generation(): Promise<Report> {
    const { model, values, view, sets, invocation } = this;
    const { tokenModel, tokenizer } = model;
    if (!tokenModel || !this.extractor) throw new DetailFlowError('unsupported', 'this model has no AR part');
    const count = values.whole('count', { least: 2, most: 1_000_000 }) ?? 10_000;
    const scales = (values.text('cfg') ?? '1.5').split(',').map(Number);
    if (!scales.every((scale) => Number.isFinite(scale) && scale >= 0))
      throw new UsageError('--cfg: give numbers');
    const { classes } = tokenModel.config;
    const realSource = datasetSource(sets.heldOut, view);
    const real = await this.#features(realSource);
    const knows = this.extractor.classes === classes;
    const rows: Record<string, unknown>[] = [];
    for (const cfg of scales) {
      const source = generatedSource({
        ...{ model: tokenModel, tokenizer, count, classes, cfg },
        seed: values.whole('seed') ?? 0,
        gradualCfg: values.flag('gradual-cfg'),
        temperature: values.number('temperature'),
        topK: values.whole('top-k'),
        topP: values.number('top-p', { least: 0, most: 1 }),
      });
      const started = performance.now();
      const generated = await this.#features(source);
      const seconds = (performance.now() - started) / 1000;
      const agreement = knows ? classAgreement(generated) : undefined;
      rows.push({ cfg, ...(await this.#compare(generated, real)), agreement, seconds });
      await this.#sheet(`samples-cfg${cfg}.png`, await source.read(0, 10 * classes, invocation), classes);
      if (cfg === scales[0] && values.flag('train')) await this.#neighbours(source, generated);
    }
    const floor = values.flag('train') ? await this.#floor(real) : undefined;
    const accuracy = knows ? classAgreement(real).all : undefined;
    const line = (name: string, row: Record<string, unknown>) => {
      const figure = (key: keyof Comparison, digits: number) =>
        (row[key] as number).toFixed(digits).padStart(9);
      const agreement = row.agreement as { all: number } | undefined;
      return `${name.padEnd(8)}${figure('frechet', 3)}${figure('precision', 3)}${figure('recall', 3)}${figure('inceptionScore', 2)}${figure('kernelDistance', 4)}${agreement ? `${(100 * agreement.all).toFixed(2).padStart(10)} %` : ''}`;
    };
    return {
      lines: [
        `${count} pictures against ${real.count} real ones, features of ${this.extractor.name}`,
        `cfg       Frechet    prec.   recall       IS      KID   agreement`,
        ...rows.map((row) => line(`${row.cfg}`, row)),
        ...(floor ? [line('train', { ...floor })] : []),
        ...new Set(rows.flatMap((row) => row.warnings as string[])),
        ...(accuracy === undefined
          ? []
          : [`accuracy of the classifier on real images: ${(100 * accuracy).toFixed(2)} %`]),
      ],
      json: { count, real: real.count, network: this.extractor.name, accuracy, rows, floor },
    };
  }

  /** Training images, as many as there are held out, against held-out ones. */
  async #floor(real: FeatureSet): Promise<Comparison> {
    const { heldOut, train } = this.sets;
    const source = datasetSource(train, this.view);
    const labels = source.labels.slice(0, heldOut.labels.length);
    return this.#compare(await this.#features({ ...source, labels }), real);
  }

  /** 20 generated pictures over their nearest training images. */
  async #neighbours(source: ImageSource, generated: FeatureSet): Promise<void> {
    const training = datasetSource(this.sets.train, this.view);
    const features = await this.#features(training);
    const shown = 20;
    const { width } = generated;
    const nearest = nearestNeighbours(generated.pool.subarray(0, shown * width), features.pool, width);
    const top = pictures(await source.read(0, shown));
    const bottom: Picture[] = [];
    for (const index of nearest) bottom.push(...pictures(await training.read(index, 1)));
    const half = shown / 2;
    const rows = [top.slice(0, half), bottom.slice(0, half), top.slice(half), bottom.slice(half)];
    await this.#write('nearest-neighbours.png', gridPicture(rows.flat(), { columns: half }));
  }

  async #sheet(name: string, images: ByteImages, classes: number): Promise<void> {
    const all = pictures(images); // image i is of class i mod classes: one row a class
    const columns = all.length / classes;
    const byClass = all.map((_, i) => all[(i % columns) * classes + Math.floor(i / columns)]);
    await this.#write(name, gridPicture(byClass, { columns }));
  }

  async #write(name: string, picture: Picture): Promise<void> {
    const scale = Math.max(1, Math.floor(700 / picture.width));
    const bytes = await upscaleNearest(picture, scale).toPng();
    await writeFileAtomically(path.join(this.out, name), (write) => write(bytes));
  }

  #features(source: ImageSource): Promise<FeatureSet> {
    const extractor = this.extractor as Extractor;
    const { signal } = this.invocation;
    return this.#counting('images', (onProgress) =>
      keptFeatures(source, path.join(this.out, 'features'), {
        extractor,
        origin: this.origin,
        signal,
        onProgress,
      }),
    );
  }

  #compare(generated: FeatureSet, real: FeatureSet): Promise<Comparison> {
    return compareFeatures(generated, real, { backend: this.model.backend, signal: this.invocation.signal });
  }

  async #counting<T>(
    unit: string,
    work: (onProgress: (done: number, total: number) => void) => Promise<T>,
  ): Promise<T> {
    const { progress } = this.invocation;
    let known = 0;
    let started = false;
    try {
      return await work((done, total) => {
        if (!started) progress.start(total, unit);
        started = true;
        progress.advance(done - known);
        known = done;
      });
    } finally {
      progress.stop();
    }
  }
}

function pictures(images: ByteImages): Picture[] {
  return Array.from({ length: images.count }, (_, i) => pictureFromBytes(images, i));
}

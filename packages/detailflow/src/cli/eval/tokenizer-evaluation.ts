import type { FamilyModel } from '@detailflow/checkpoint';
import { DetailFlowError, type Picture } from '@detailflow/core';
import { acrossClasses, gridPicture, type ImageDataset, subset, wholeEnlarged } from '@detailflow/data';
import {
  datasetSource,
  evaluationPresets,
  noisyIndices,
  previewCounts,
  type Restoration,
  type RestoringTokenizer,
  reconstructionSource,
  tokenizerFigures,
  tokenizerReport,
} from '@detailflow/eval';
import { openExtractor, openPerceptualDistance } from '@detailflow/eval/node';
import { isDetailFlow } from '../../detailflow-family';
import { type Invocation, type Report, UsageError } from '../command';
import { withModel } from '../model-options';
import { encodedSize } from '../size-options';
import { parseList, type Values } from '../values';
import { EvaluationRun, modelPath, picturesOf } from './evaluation-run';
import { imageDivision } from './image-division';

/** Images of the sheet. */
const SHOWN = 8;

/** PSNR, SSIM, LPIPS and Frechet distance of restored images, by number of tokens and by noise. */
export async function evaluateTokenizer(invocation: Invocation, values: Values): Promise<Report> {
  const [out, data] = [values.required('out'), values.required('data')];
  const [features, vgg, heads] = ['features', 'vgg', 'lpips'].map((name) => values.text(name));
  if ((vgg === undefined) !== (heads === undefined)) throw new UsageError('give --vgg and --lpips together');
  const preset = presetOf(values, 'tokenizer');
  return withModel(invocation, 'tokenizer', async (opened, start) => {
    const wanted = encodedSize(values, opened);
    const evalSize = values.whole('eval-size', { least: 7, most: 65536 });
    const restorations = restorationsOf(values, opened, wanted.tokens, preset?.restorations);
    const division = imageDivision(values, opened.card);
    const view = { ...division.view, size: wanted.size };
    const part = values.flag('all-images') || preset ? 'all' : 'held-out';
    const paths = ['model', 'tokenizer'].map((name) => modelPath(values, name));
    const run = await EvaluationRun.open(invocation, out, [...paths, data, features, vgg, heads], opened);
    const divided = await division.open(data);
    const note = part === 'held-out' ? divided.note : undefined;
    const dataset = await run.readable(data, divided, part);
    const model = await start();
    const { backend, detailflow } = model;
    const whole = model.hasCodes || !model.latents ? model.tokenizer : model.latents;
    const isFull = wanted.size === opened.tokenizer.imageSize;
    const tokenizer = isFull || !detailflow ? whole : detailflow.tokenizer.atSize(wanted.size);
    const extractor = features === undefined ? undefined : await openExtractor(features, backend);
    const perceptual =
      vgg === undefined || heads === undefined
        ? undefined
        : await openPerceptualDistance({ vgg, heads }, backend);
    try {
      const figures = await run.counting('images', (onProgress) =>
        tokenizerFigures({
          ...{
            tokenizer,
            dataset,
            view,
            restorations,
            evalSize,
            extractor,
            perceptual,
            store: run.store,
            onProgress,
          },
          images: values.whole('count', { least: 1 }) ?? preset?.count,
          signal: run.signal,
        }),
      );
      await sheet(run, tokenizer, { dataset, view, restorations });
      const title = `How well the tokenizer restores ${dataset.name}`;
      const lines = [
        `${figures.images} images`,
        'tokens   noise  pixels   PSNR dB    SSIM    LPIPS    Frechet',
        ...figures.restorations.map(({ tokens, noiseIndex, size, psnr, ssim, lpips, frechet }) =>
          [
            `${tokens}`.padStart(6),
            `${noiseIndex ?? '-'}`.padStart(7),
            `${size}`.padStart(7),
            psnr.toFixed(2).padStart(9),
            (ssim?.toFixed(4) ?? '-').padStart(7),
            (lpips?.toFixed(4) ?? '-').padStart(8),
            (frechet?.toFixed(3) ?? '-').padStart(10),
          ].join(' '),
        ),
        figures.usage === undefined
          ? 'latents are continuous: there are no codes'
          : `codebook in use: ${(100 * figures.usage).toFixed(1)} %, perplexity ${figures.perplexity?.toFixed(0)}`,
        ...(note === undefined ? [] : [note]),
      ];
      const page = tokenizerReport({ title, figures, pictures: run.pictures });
      const json = { ...figures, ...(note !== undefined && { note }) };
      return await run.finish('tokenizer', { lines, json }, page);
    } finally {
      await dataset.close?.();
      await perceptual?.dispose();
      await extractor?.dispose();
    }
  });
}

/** The preset of --preset, when it is for this kind of evaluation. */
export function presetOf(values: Values, what: 'tokenizer' | 'generation') {
  const name = values.choice('preset', Object.keys(evaluationPresets));
  const preset = name === undefined ? undefined : evaluationPresets[name];
  if (preset && preset.what !== what) {
    throw new UsageError(`--preset ${name} measures a ${preset.what}: say eval ${preset.what}`);
  }
  return preset;
}

function restorationsOf(
  values: Values,
  opened: FamilyModel,
  all: number,
  preset?: 'all' | 'noisy',
): Restoration[] {
  const { previewCounts: shown } = opened.tokenizer;
  const clean = (tokens: number): Restoration => ({ tokens, noiseIndex: null });
  const noisy = (noiseIndex: number): Restoration => ({ tokens: all, noiseIndex });
  const [counts, noise] = [values.text('tokens'), values.text('noise')];
  const own = isDetailFlow(opened) ? { ...opened.tokenizer.config, tokens: all } : undefined;
  if (opened.tokenizer.previews === 'none' && counts !== undefined && counts !== `${all}`) {
    throw new UsageError(`--tokens ${counts}: without an order a picture needs all ${all}`);
  }
  if (!own && (noise !== undefined || preset === 'noisy')) {
    throw new DetailFlowError('unsupported', 'only tokenizers of DetailFlow correct codes with noise', {
      file: opened.tokenizer.file,
    });
  }
  const cleanOnes =
    counts !== undefined
      ? parseList(counts, '--tokens').map(clean)
      : preset
        ? [clean(all)]
        : (own ? previewCounts(own) : shown).map(clean);
  if (noise !== undefined) return [...cleanOnes, ...parseList(noise, '--noise').map(noisy)];
  return own && preset === 'noisy' ? [...cleanOnes, ...noisyIndices(own).map(noisy)] : cleanOnes;
}

/** Some images, of as many classes as can be, each in a row: the original, then restored from few tokens to all. */
async function sheet(
  run: EvaluationRun,
  tokenizer: RestoringTokenizer,
  options: {
    readonly dataset: ImageDataset;
    readonly view: NonNullable<Parameters<typeof datasetSource>[1]>;
    readonly restorations: readonly Restoration[];
  },
): Promise<void> {
  const { view, restorations } = options;
  const dataset = subset(options.dataset, acrossClasses(options.dataset.labels, SHOWN));
  const shown = dataset.labels.length;
  const sources = [
    datasetSource(dataset, view),
    ...restorations.map((one) => reconstructionSource(dataset, view, { tokenizer, ...one })),
  ];
  const columns: Picture[][] = [];
  for (const source of sources) {
    const pictures = picturesOf(await source.read(0, shown, run));
    columns.push(pictures.map((picture) => wholeEnlarged(picture, view.size)));
  }
  const rows = Array.from({ length: shown }, (_, i) => columns.map((column) => column[i]));
  const ways = restorations.map(({ tokens, noiseIndex }) =>
    noiseIndex === null ? `${tokens}` : `${tokens} with noise from ${noiseIndex}`,
  );
  const caption = `Originals, and restored from ${ways.join(', ')} tokens`;
  await run.picture('reconstructions.png', caption, gridPicture(rows.flat(), { columns: columns.length }));
}

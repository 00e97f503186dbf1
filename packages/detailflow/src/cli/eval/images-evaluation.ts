import path from 'node:path';
import { writeFileAtomically } from '@detailflow/checkpoint/node';
import { evenlySpaced, gridPicture, subset } from '@detailflow/data';
import {
  compareFeatures,
  comparisonRows,
  datasetSource,
  formatStatistics,
  imagesReport,
} from '@detailflow/eval';
import { openExtractor } from '@detailflow/eval/node';
import { type Invocation, type Report, UsageError } from '../command';
import { openDevice } from '../device-backend';
import type { Values } from '../values';
import { EvaluationRun, picturesOf } from './evaluation-run';
import { imageDivision } from './image-division';

/** Images of the sheet. */
const SHOWN = 100;

/** Compares images of any origin with others, or with statistics of others; or makes such statistics. */
export async function evaluateImages(invocation: Invocation, values: Values): Promise<Report> {
  const [out, images, features] = ['out', 'images', 'features'].map((name) => values.required(name));
  const [data, saved] = [values.text('data'), values.text('save-statistics')];
  if (data === undefined && saved === undefined) {
    throw new UsageError('give --data to compare with, or --save-statistics FILE.npz, or both');
  }
  if (saved !== undefined && !saved.endsWith('.npz')) {
    throw new UsageError(`--save-statistics "${saved}" must end in .npz`);
  }
  const device = values.choice('device', ['cpu', 'cuda', 'webgpu', 'auto']);
  const threads = values.whole('threads', { least: 1, most: 1024 });
  const run = await EvaluationRun.open(invocation, out, [images, data, features]);
  const backend = await openDevice({ device, threads });
  try {
    const extractor = await openExtractor(features, backend);
    const division = imageDivision(values);
    const whole = await run.readable(images, await division.open(images), 'all');
    const count = Math.min(values.whole('count', { least: 2 }) ?? Infinity, whole.labels.length);
    const isPart = count < whole.labels.length;
    const dataset = isPart
      ? subset(whole, evenlySpaced(whole.labels.length, count), `${whole.name}, ${count} of them`)
      : whole;
    try {
      const size = values.whole('size', { least: 1, most: 4096 }) ?? extractor.imageSize;
      const view = size === undefined ? undefined : { ...division.view, size };
      const source = datasetSource(dataset, view);
      const found = await run.features(source, extractor);
      if (saved !== undefined) {
        const bytes = formatStatistics(found.statistics);
        await writeFileAtomically(path.resolve(saved), (write) => write(bytes));
      }
      const kept = saved === undefined ? [] : [`statistics: ${saved}`];
      if (data === undefined) {
        const sources = run.sources();
        const { mean, deviation } = found.inceptionScore ?? {};
        const known = `, inception score ${mean?.toFixed(3)} ± ${deviation?.toFixed(3)}`;
        const score = `${count} images${mean === undefined ? '' : known}`;
        const figures = { count, network: extractor.name, inceptionScore: found.inceptionScore };
        return {
          lines: [score, ...kept, ...sources.lines],
          json: { ...figures, statistics: saved, ...sources.json },
        };
      }
      const real = await run.real(data, { extractor, view, part: 'all', division });
      const figures = await compareFeatures(found, real.reference, { backend, signal: run.signal });
      const shown = picturesOf(await source.read(0, Math.min(SHOWN, count), run));
      const columns = Math.ceil(Math.sqrt(shown.length));
      await run.picture('images.png', `The first images of ${images}`, gridPicture(shown, { columns }));
      const title = `${images} against ${data}`;
      const network = extractor.name;
      const page = imagesReport({ title, count, network, figures, pictures: run.pictures });
      const rows = comparisonRows(figures).map(({ name, text }) => `${name.padEnd(26)}${text}`);
      const lines = [`${count} images, features of ${network}`, ...rows, ...figures.warnings, ...kept];
      return await run.finish('images', { lines, json: { count, network, ...figures } }, page);
    } finally {
      await dataset.close?.();
      await extractor.dispose();
    }
  } finally {
    await backend.close?.();
  }
}

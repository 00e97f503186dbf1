import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { writeFileAtomically } from '@detailflow/checkpoint/node';
import { type Curve, htmlPage, htmlPicture, lineChart, sourceSection } from '@detailflow/eval';
import { readDataUse } from './data-use';
import type { LogLine, RunFolder, Stage } from './run-folder';

/** Pictures of a stage that the report shows. */
const MOST_PICTURES = 6;
/** Points of a curve. */
const MOST_POINTS = 400;

/**
 * Writes report.html: curves of losses, codebook usage and validation, and what reconstructions and samples looked like
 * over time. The page needs nothing else.
 * @returns its path
 */
export async function writeReport(folder: RunFolder): Promise<string> {
  const [tokenizer, ar] = [await folder.readLog('tokenizer'), await folder.readLog('ar')];
  const counts = Object.keys((tokenizer.findLast(({ psnr }) => psnr)?.psnr as object | undefined) ?? {});
  const use = await readDataUse(folder);
  const sections = [
    heading('Tokenizer', tokenizer),
    lineChart('Reconstruction loss', [smooth('reconstruction', tokenizer, 'reconstruction')], { log: true }),
    lineChart(
      'PSNR in dB by number of tokens',
      counts.map((count) => validation(`${count}`, tokenizer, count)),
    ),
    lineChart('Share of the codebook in use', [smooth('usage', tokenizer, 'usage')], { least: 0, most: 1 }),
    lineChart('Quantiser loss', [smooth('vq', tokenizer, 'vq'), smooth('commit', tokenizer, 'commit')], {
      log: true,
    }),
    await pictures(folder, 'tokenizer', 'Originals, and their reconstructions from few tokens to all'),
    heading('AR model', ar),
    lineChart('Loss in nats', [smooth('training', ar, 'loss'), raw('held out', ar, 'heldOutLoss')]),
    lineChart('Loss by position', positionCurves(ar), { across: 'token' }),
    await pictures(folder, 'ar', 'Samples, one row a class'),
    use ? sourceSection('Images', use) : '',
  ];
  const page = htmlPage('Training report', sections);
  const file = await folder.place('report.html');
  await writeFileAtomically(file, (write) => write(new TextEncoder().encode(page)));
  return file;
}

function heading(title: string, log: readonly LogLine[]): string {
  const last = log.at(-1);
  return last ? `<h2>${title}, ${(last.step as number) + 1} steps</h2>` : '';
}

function raw(name: string, log: readonly LogLine[], key: string): Curve {
  const points = log.flatMap((line) => {
    const value = line[key];
    return typeof value === 'number' ? [[line.step as number, value] as const] : [];
  });
  return { name, points };
}

/** Means of as many stretches as there are points. */
function smooth(name: string, log: readonly LogLine[], key: string): Curve {
  const { points } = raw(name, log, key);
  const width = Math.max(1, Math.ceil(points.length / MOST_POINTS));
  const means: (readonly [number, number])[] = [];
  for (let at = 0; at < points.length; at += width) {
    const part = points.slice(at, at + width);
    means.push([part[part.length - 1][0], part.reduce((sum, [, y]) => sum + y, 0) / part.length]);
  }
  return { name, points: means };
}

function validation(name: string, log: readonly LogLine[], count: string): Curve {
  const points = log.flatMap((line) => {
    const value = (line.psnr as Record<string, number> | undefined)?.[count];
    return value === undefined ? [] : [[line.step as number, value] as const];
  });
  return { name, points };
}

function positionCurves(log: readonly LogLine[]): Curve[] {
  const last = log.findLast((line) => Array.isArray(line.heldOutPositionLoss));
  const losses = (last?.heldOutPositionLoss as number[] | undefined) ?? [];
  return [{ name: 'held out', points: losses.map((loss, i) => [i, loss] as const) }];
}

/** The first, the last, and some in between. */
async function pictures(folder: RunFolder, stage: Stage, title: string): Promise<string> {
  const place = path.join(folder.path, stage, 'pictures');
  const names = (await readdir(place).catch(() => [])).filter((name) => /^step-\d+\.png$/.test(name)).sort();
  if (names.length === 0) return '';
  const last = names.length - 1;
  const chosen = new Set(
    Array.from(
      { length: Math.min(MOST_PICTURES, names.length) },
      (_, i, n = Math.min(MOST_PICTURES, names.length)) =>
        n === 1 ? last : Math.round((i * last) / (n - 1)),
    ),
  );
  const figures = [...chosen].map(async (i) => {
    const step = Number(/\d+/.exec(names[i])?.[0]);
    return htmlPicture(`step ${step}`, await readFile(path.join(place, names[i])));
  });
  return `<h3>${title}</h3>${(await Promise.all(figures)).join('')}`;
}

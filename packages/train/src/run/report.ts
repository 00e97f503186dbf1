import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { writeFileAtomically } from '@detailflow/checkpoint/node';
import type { LogLine, RunFolder, Stage } from './run-folder';

/** Pictures of a stage that the report shows. */
const MOST_PICTURES = 6;
/** Points of a curve. */
const MOST_POINTS = 400;

interface Curve {
  readonly name: string;
  readonly points: readonly (readonly [number, number])[];
}

/**
 * Writes report.html: curves of losses, codebook usage and validation, and what reconstructions and samples looked like
 * over time. The page needs nothing else.
 * @returns its path
 */
export async function writeReport(folder: RunFolder): Promise<string> {
  const [tokenizer, ar] = [await folder.readLog('tokenizer'), await folder.readLog('ar')];
  const counts = Object.keys((tokenizer.findLast(({ psnr }) => psnr)?.psnr as object | undefined) ?? {});
  const sections = [
    heading('Tokenizer', tokenizer),
    figure('Reconstruction loss', [smooth('reconstruction', tokenizer, 'reconstruction')], { log: true }),
    figure(
      'PSNR in dB by number of tokens',
      counts.map((count) => validation(`${count}`, tokenizer, count)),
    ),
    figure('Share of the codebook in use', [smooth('usage', tokenizer, 'usage')], { least: 0, most: 1 }),
    figure('Quantiser loss', [smooth('vq', tokenizer, 'vq'), smooth('commit', tokenizer, 'commit')], {
      log: true,
    }),
    await pictures(folder, 'tokenizer', 'Originals, and their reconstructions from few tokens to all'),
    heading('AR model', ar),
    figure('Loss in nats', [smooth('training', ar, 'loss'), raw('held out', ar, 'heldOutLoss')]),
    figure('Loss by position', positionCurves(ar), { across: 'token' }),
    await pictures(folder, 'ar', 'Samples, one row a class'),
  ];
  const page = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Training report</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff }
h1 { font-size: 1.5rem } h2 { font-size: 1.2rem; margin-top: 2.5rem; border-bottom: 1px solid #ddd }
figure { display: inline-block; margin: 1rem 1rem 0 0; vertical-align: top }
figcaption { font-weight: 600 } img { max-width: 100%; image-rendering: pixelated; display: block; margin-top: .3rem }
svg text { font: 11px system-ui, sans-serif; fill: #555 }
</style>
<h1>Training report</h1>
${sections.filter(Boolean).join('\n')}
</html>
`;
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

const colours = [
  '#1663be',
  '#d1495b',
  '#2e933c',
  '#b3760b',
  '#7048b6',
  '#0e8a8a',
  '#8d5524',
  '#555',
  '#c239b3',
];

interface AxisOptions {
  readonly log?: boolean;
  readonly least?: number;
  readonly most?: number;
  /** What the horizontal axis counts. */
  readonly across?: string;
}

function figure(title: string, curves: readonly Curve[], options: AxisOptions = {}): string {
  const drawn = curves.filter(({ points }) => points.length > 0);
  if (drawn.length === 0) return '';
  const [width, height, left, bottom, top] = [440, 240, 52, 26, 10];
  const right = drawn.length > 1 ? 70 : 12;
  const scale = options.log ? Math.log10 : (x: number) => x;
  const all = drawn.flatMap(({ points }) => points).filter(([, y]) => !options.log || y > 0);
  if (all.length === 0) return '';
  const [x0, x1] = extremes(all.map(([x]) => x));
  const [low, high] = extremes(all.map(([, y]) => scale(y)));
  const [y0, y1] = [options.least ?? low, options.most ?? high];
  const place = (x: number, y: number) => [
    left + ((x - x0) / (x1 - x0 || 1)) * (width - left - right),
    height - bottom - ((y - y0) / (y1 - y0 || 1)) * (height - bottom - top),
  ];
  const ticks = Array.from({ length: 5 }, (_, i) => {
    const y = y0 + ((y1 - y0) * i) / 4;
    const at = place(x0, y)[1].toFixed(1);
    const value = options.log ? 10 ** y : y;
    return `<path d="M${left} ${at}H${width - right}" stroke="#eee"/><text x="${left - 6}" y="${at}" dy="4" text-anchor="end">${shown(value)}</text>`;
  });
  const lines = drawn.map(({ name, points }, i) => {
    const colour = colours[i % colours.length];
    const path = points
      .filter(([, y]) => !options.log || y > 0)
      .map(
        ([x, y], j) =>
          `${j === 0 ? 'M' : 'L'}${place(x, scale(y))
            .map((v) => v.toFixed(1))
            .join(' ')}`,
      );
    const legend =
      drawn.length > 1
        ? `<text x="${width - right + 8}" y="${top + 8 + 15 * i}" style="fill:${colour}">${escapeHtml(name)}</text>`
        : '';
    return `<path d="${path.join('')}" fill="none" stroke="${colour}" stroke-width="1.5"/>${legend}`;
  });
  const across = options.across ?? 'step';
  return `<figure><figcaption>${title}</figcaption><svg width="${width}" height="${height}" role="img" aria-label="${title}">${ticks.join('')}${lines.join('')}<text x="${left}" y="${height - 8}">${x0}</text><text x="${width - right}" y="${height - 8}" text-anchor="end">${across} ${x1}</text></svg></figure>`;
}

function extremes(values: readonly number[]): [number, number] {
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const value of values) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  return [low, high];
}

const shown = (x: number) =>
  x === 0 || (Math.abs(x) >= 0.01 && Math.abs(x) < 1e4) ? `${+x.toPrecision(3)}` : x.toExponential(1);

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
    const data = (await readFile(path.join(place, names[i]))).toString('base64');
    const step = Number(/\d+/.exec(names[i])?.[0]);
    return `<figure><figcaption>step ${step}</figcaption><img alt="${title}, step ${step}" src="data:image/png;base64,${data}"></figure>`;
  });
  return `<h3>${title}</h3>${(await Promise.all(figures)).join('')}`;
}

const escapeHtml = (text: string) => text.replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`);

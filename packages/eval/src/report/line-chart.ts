import { checkOptions } from '@detailflow/core';
import { escapeHtml } from './html-page';

/** A line of a chart. */
export interface Curve {
  readonly name: string;
  /** x and y, from left to right. */
  readonly points: readonly (readonly [number, number])[];
}

/** Size, axes and titles of a line chart. */
export interface LineChartOptions {
  /** Logarithmic axes. */
  readonly log?: boolean;
  readonly logAcross?: boolean;
  /** Ends of the vertical axis; default those of the curves. */
  readonly least?: number;
  readonly most?: number;
  /** What the horizontal axis counts; default `step`. */
  readonly across?: string;
  /** Marks every point: for curves of few. */
  readonly dots?: boolean;
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

/** A chart as an HTML figure, or '' where there is nothing to draw. */
export function lineChart(title: string, curves: readonly Curve[], options: LineChartOptions = {}): string {
  checkOptions('lineChart', options, {
    log: true,
    logAcross: true,
    least: true,
    most: true,
    across: true,
    dots: true,
  });
  const isShown = ([x, y]: readonly [number, number]) =>
    Number.isFinite(y) && !(options.log && y <= 0) && !(options.logAcross && x <= 0);
  const drawn = curves
    .map(({ name, points }) => ({ name, points: points.filter(isShown) }))
    .filter(({ points }) => points.length > 0);
  if (drawn.length === 0) return '';
  const [width, height, left, bottom, top] = [440, 240, 52, 26, 10];
  const right = drawn.length > 1 ? 80 : 12;
  const scale = options.log ? Math.log10 : (value: number) => value;
  const scaleAcross = options.logAcross ? Math.log10 : (value: number) => value;
  const all = drawn.flatMap(({ points }) => points);
  const [first, last] = extremes(all.map(([x]) => x));
  const [x0, x1] = [scaleAcross(first), scaleAcross(last)];
  const [low, high] = extremes(all.map(([, y]) => scale(y)));
  const [y0, y1] = [options.least ?? low, options.most ?? high];
  const place = ([x, y]: readonly [number, number]) =>
    [
      left + ((scaleAcross(x) - x0) / (x1 - x0 || 1)) * (width - left - right),
      height - bottom - ((scale(y) - y0) / (y1 - y0 || 1)) * (height - bottom - top),
    ].map((value) => value.toFixed(1));
  const ticks = Array.from({ length: 5 }, (_, i) => {
    const y = y0 + ((y1 - y0) * i) / 4;
    const at = (height - bottom - (i / 4) * (height - bottom - top)).toFixed(1);
    return `<path d="M${left} ${at}H${width - right}" stroke="#eee"/><text x="${left - 6}" y="${at}" dy="4" text-anchor="end">${shown(options.log ? 10 ** y : y)}</text>`;
  });
  const lines = drawn.map(({ name, points }, i) => {
    const colour = colours[i % colours.length];
    const places = points.map(place);
    const path = places.map((at, j) => `${j === 0 ? 'M' : 'L'}${at.join(' ')}`).join('');
    const dots = options.dots
      ? places.map(([x, y]) => `<circle cx="${x}" cy="${y}" r="3" fill="${colour}"/>`).join('')
      : '';
    const legend =
      drawn.length > 1
        ? `<text x="${width - right + 8}" y="${top + 8 + 15 * i}" style="fill:${colour}">${escapeHtml(name)}</text>`
        : '';
    return `<path d="${path}" fill="none" stroke="${colour}" stroke-width="1.5"/>${dots}${legend}`;
  });
  const axis = `<text x="${left}" y="${height - 8}">${shown(first)}</text><text x="${width - right}" y="${height - 8}" text-anchor="end">${escapeHtml(options.across ?? 'step')} ${shown(last)}</text>`;
  const name = escapeHtml(title);
  return `<figure><figcaption>${name}</figcaption><svg width="${width}" height="${height}" role="img" aria-label="${name}">${ticks.join('')}${lines.join('')}${axis}</svg></figure>`;
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
  Number.isInteger(x) && Math.abs(x) < 1e7
    ? `${x}`
    : x === 0 || (Math.abs(x) >= 0.01 && Math.abs(x) < 1e4)
      ? `${+x.toPrecision(3)}`
      : x.toExponential(1);

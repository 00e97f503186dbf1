import type { Comparison } from '../comparison';
import { type GenerationRow, type Spread, summariseScales } from '../evaluate-generation';
import type { PictureLabels } from '../image-source';
import type { TokenizerFigures } from '../tokenizer-figures';
import { escapeHtml, htmlPage, htmlPicture, htmlTable } from './html-page';
import { lineChart } from './line-chart';

/** A picture of a report. */
export interface ReportPicture {
  readonly caption: string;
  readonly png: Uint8Array;
}

const fixed = (value: number | undefined, digits: number) =>
  value === undefined || Number.isNaN(value) ? '–' : value.toFixed(digits).replace(/^-(0\.?0*)$/, '$1');
const percent = (value: number | undefined) =>
  value === undefined || Number.isNaN(value) ? '–' : `${(100 * value).toFixed(1)} %`;
const spread = (found: Spread | undefined, digits: number, many: boolean) =>
  found ? `${found.mean.toFixed(digits)}${many ? ` ± ${found.spread.toFixed(digits)}` : ''}` : '–';
const note = (text: string) => `<p class="note">${escapeHtml(text)}</p>`;
const paragraph = (text: string) => `<p>${escapeHtml(text)}</p>`;

/** What a report on a tokenizer shows. */
export interface TokenizerReport {
  readonly title: string;
  readonly figures: TokenizerFigures;
  readonly pictures: readonly ReportPicture[];
}

/** How well a tokenizer restores images, as a page. */
export function tokenizerReport({ title, figures, pictures }: TokenizerReport): string {
  const { restorations, images, usage, perplexity } = figures;
  const clean = restorations.filter(({ noiseIndex }) => noiseIndex === null);
  const curve = (name: string, figure: (one: (typeof clean)[number]) => number | undefined) => ({
    name,
    points: clean.map((one) => [one.tokens, figure(one) ?? Number.NaN] as const),
  });
  const across = { across: 'tokens', logAcross: true, dots: true };
  return htmlPage(title, [
    paragraph(
      usage === undefined || perplexity === undefined
        ? `${images} images. Latents are continuous: there are no codes.`
        : `${images} images. Codebook in use: ${percent(usage)}, perplexity ${perplexity.toFixed(0)}.`,
    ),
    htmlTable(
      ['tokens', 'noise from', 'pixels', 'PSNR, dB', 'SSIM', 'LPIPS', 'Fréchet distance'],
      restorations.map(({ tokens, noiseIndex, size, psnr, ssim, lpips, frechet }) => [
        `${tokens}`,
        noiseIndex === null ? '–' : `token ${noiseIndex}`,
        `${size} x ${size}`,
        ...[fixed(psnr, 2), fixed(ssim, 4), fixed(lpips, 4), fixed(frechet, 3)],
      ]),
    ),
    note(
      'PSNR and SSIM: at the size that so many tokens are worth, against the image resized the same way. LPIPS and Fréchet distance: enlarged to full size.',
    ),
    '<h2>Coarse to fine</h2>',
    ...(clean.length > 1
      ? [
          lineChart('PSNR in dB by number of tokens', [curve('PSNR', ({ psnr }) => psnr)], across),
          lineChart('Fréchet distance by number of tokens', [curve('', ({ frechet }) => frechet)], across),
          lineChart('SSIM by number of tokens', [curve('SSIM', ({ ssim }) => ssim)], across),
          lineChart('LPIPS by number of tokens', [curve('LPIPS', ({ lpips }) => lpips)], across),
        ]
      : []),
    ...pictures.map(({ caption, png }) => htmlPicture(caption, png)),
  ]);
}

/** What a report on generated pictures shows. */
export interface GenerationReport {
  readonly title: string;
  readonly count: number;
  /** Default `balanced`. */
  readonly labels?: PictureLabels;
  readonly network: string;
  readonly rows: readonly GenerationRow[];
  readonly classNames: readonly string[];
  /** Training images against the same real ones. */
  readonly floor?: Comparison;
  /** Share of the real images that the network takes for what they are. */
  readonly accuracy?: number;
  readonly pictures: readonly ReportPicture[];
}

/** How generated pictures compare with real images, as a page. */
export function generationReport(report: GenerationReport): string {
  const { title, count, labels = 'balanced', network, rows, classNames, floor, accuracy, pictures } = report;
  const summary = summariseScales(rows);
  const many = new Set(rows.map(({ seed }) => seed)).size > 1;
  const curves = (figure: (one: (typeof summary)[number]) => Spread | undefined, name = '') => ({
    name,
    points: summary
      .map((one) => [one.cfg, figure(one)?.mean ?? Number.NaN] as const)
      .sort(([a], [b]) => a - b),
  });
  const across = { across: 'CFG', dots: true };
  const comparison = (name: string, figures: Comparison) => [
    name,
    fixed(figures.frechet, 3),
    fixed(figures.spatialFrechet, 3),
    fixed(figures.inceptionScore, 2),
    fixed(figures.precision, 3),
    fixed(figures.recall, 3),
    fixed(figures.kernelDistance, 5),
    '–',
  ];
  return htmlPage(title, [
    paragraph(
      `${count} pictures of ${labels} classes for each guidance scale${many ? ' and seed (mean ± half the range)' : ''}; features of ${network}.` +
        (accuracy === undefined
          ? ''
          : ` The network takes ${percent(accuracy)} of the real images for what they are.`),
    ),
    htmlTable(
      ['CFG', 'Fréchet', 'spatial Fréchet', 'IS', 'precision', 'recall', 'KID', 'class asked for'],
      [
        ...summary.map((one) => [
          `${one.cfg}`,
          spread(one.frechet, 3, many),
          spread(one.spatialFrechet, 3, many),
          spread(one.inceptionScore, 2, many),
          spread(one.precision, 3, many),
          spread(one.recall, 3, many),
          spread(one.kernelDistance, 5, many),
          one.agreement
            ? spread({ mean: 100 * one.agreement.mean, spread: 100 * one.agreement.spread }, 1, many)
            : '–',
        ]),
        ...(floor ? [comparison('training images', floor)] : []),
      ],
    ),
    ...new Set(rows.flatMap(({ warnings }) => warnings).map(note)),
    ...(summary.length > 1
      ? [
          '<h2>Guidance</h2>',
          lineChart('Fréchet distance by CFG', [curves(({ frechet }) => frechet)], across),
          lineChart('Inception score by CFG', [curves(({ inceptionScore }) => inceptionScore)], across),
          lineChart(
            'Precision and recall by CFG',
            [curves(({ precision }) => precision, 'precision'), curves(({ recall }) => recall, 'recall')],
            across,
          ),
          lineChart('Share of the class asked for by CFG', [curves(({ agreement }) => agreement)], across),
        ]
      : []),
    ...pictures.map(({ caption, png }) => htmlPicture(caption, png)),
    classTable(rows, classNames),
  ]);
}

/** Of every class: is it the one asked for, and are its pictures within reach of real ones; with the first seed. */
function classTable(rows: readonly GenerationRow[], classNames: readonly string[]): string {
  const first = rows.filter(({ seed }) => seed === rows[0]?.seed);
  const columns = first.flatMap(({ cfg, agreement, precisionByClass }) => [
    ...(agreement ? [{ head: `asked for, CFG ${cfg}`, values: agreement.byClass }] : []),
    ...(precisionByClass ? [{ head: `precision, CFG ${cfg}`, values: precisionByClass }] : []),
  ]);
  if (columns.length === 0) return '';
  const classes = Math.max(...columns.map(({ values }) => values.length));
  const table = htmlTable(
    ['class', ...columns.map(({ head }) => head)],
    Array.from({ length: classes }, (_, label) => [
      classNames[label] ?? `${label}`,
      ...columns.map(({ values }) => percent(values[label])),
    ]),
  );
  return `<h2>Classes</h2>${table}`;
}

/** What a report on images of any origin shows. */
export interface ImagesReport {
  readonly title: string;
  readonly count: number;
  readonly network: string;
  readonly figures: Comparison;
  readonly pictures: readonly ReportPicture[];
}

/** How images compare with others, as a page. */
export function imagesReport({ title, count, network, figures, pictures }: ImagesReport): string {
  return htmlPage(title, [
    paragraph(`${count} images; features of ${network}.`),
    htmlTable(
      ['figure', 'value'],
      comparisonRows(figures).map(({ name, text }) => [name, text]),
    ),
    ...figures.warnings.map(note),
    ...pictures.map(({ caption, png }) => htmlPicture(caption, png)),
  ]);
}

/** The figures of a comparison by name, for people. */
export function comparisonRows(figures: Comparison): { name: string; text: string }[] {
  const { inceptionScore, inceptionScoreDeviation, kernelDistance, kernelDistanceDeviation } = figures;
  return [
    { name: 'Fréchet distance', text: fixed(figures.frechet, 4) },
    { name: 'spatial Fréchet distance', text: fixed(figures.spatialFrechet, 4) },
    ...(inceptionScore === undefined
      ? []
      : [
          {
            name: 'inception score',
            text: `${fixed(inceptionScore, 3)} ± ${fixed(inceptionScoreDeviation, 3)}`,
          },
        ]),
    { name: 'precision', text: fixed(figures.precision, 4) },
    { name: 'recall', text: fixed(figures.recall, 4) },
    {
      name: 'KID',
      text:
        kernelDistance === undefined
          ? '–'
          : `${fixed(kernelDistance, 6)} ± ${fixed(kernelDistanceDeviation, 6)}`,
    },
  ].filter(({ text }) => text !== '–');
}

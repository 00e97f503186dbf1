import path from 'node:path';
import { writeFileAtomically } from '@detailflow/checkpoint/node';
import { type Backend, DetailFlowError } from '@detailflow/core';
import { type CenterViewOptions, evenlySpaced, gridPicture, subset } from '@detailflow/data';
import {
  COPY_QUANTILE,
  type Comparison,
  type Copies,
  classAgreement,
  compareFeatures,
  copies,
  type DrawnPictures,
  datasetSource,
  differentClass,
  type Extractor,
  evaluateGeneration,
  type FeatureSet,
  firstPictureSeeds,
  generatedSource,
  generationReport,
  nearestNeighbours,
  PICTURES_PER_SEED,
  type PictureLabels,
  type Reference,
  summariseScales,
  writeImageArchive,
} from '@detailflow/eval';
import { openExtractor } from '@detailflow/eval/node';
import { InterruptedError, type Invocation, type Report, UsageError } from '../command';
import { checkGuidance, namedGuidanceOf } from '../guidance-options';
import { wasInterrupted } from '../interruption';
import { withModel } from '../model-options';
import { evaluationElsewhere } from '../queue/evaluation-task';
import { asJson, modelHints, modelIdentity } from '../queue/model-identity';
import { leftLines, machineLines, openQueue } from '../queue/queue-options';
import { pictureSize, requireSquare } from '../size-options';
import { parseList, type Values } from '../values';
import { EvaluationRun, modelPath, picturesOf } from './evaluation-run';
import { type ImageDivision, imageDivision } from './image-division';
import { presetOf } from './tokenizer-evaluation';

/** Classes and pictures of each that the sheets show. */
const [MOST_CLASSES, COLUMNS] = [20, 10];
/** Pictures that are shown over their nearest training images. */
const NEAREST = 40;

/** Every figure of generated pictures at every guidance scale, the floor, and the nearest neighbours. */
export async function evaluateGenerated(invocation: Invocation, values: Values): Promise<Report> {
  const [out, data] = [values.required('out'), values.required('data')];
  const file = values.text('features');
  if (file === undefined) {
    throw new UsageError('--features is missing: generated pictures are compared by a network');
  }
  const preset = presetOf(values, 'generation');
  const count = values.whole('count', { least: 2, most: PICTURES_PER_SEED }) ?? preset?.count ?? 10_000;
  const seeds = seedsOf(values, count);
  const labels = values.choice('labels', ['balanced', 'random'] as const) ?? preset?.labels ?? 'balanced';
  const choice = {
    temperature: values.number('temperature'),
    topK: values.whole('top-k'),
    topP: values.number('top-p', { least: 0, most: 1 }),
  };
  return withModel(invocation, 'both', async (opened, start) => {
    const { tokens } = opened.ar ?? opened.tokenizer;
    if (opened.ar?.text) {
      throw new DetailFlowError(
        'unsupported',
        'draws for texts: generated pictures are measured by classes',
        {
          file: opened.ar.file,
        },
      );
    }
    checkGuidance(values, opened);
    if (values.text('queue') !== undefined && values.text('cfg-interval') !== undefined) {
      throw new UsageError('--cfg-interval is for pictures that are drawn here, without --queue');
    }
    requireSquare(opened, 'real pictures to compare with are cut square');
    const sizes = pictureSize(values, opened);
    const size = sizes.evalSize ?? sizes.size ?? opened.pictureSize;
    const given = scalesOf(values);
    const division = imageDivision(values, opened.card);
    const view = { ...division.view, size };
    const paths = ['model', 'tokenizer', 'ar'].map((name) => modelPath(values, name));
    const run = await EvaluationRun.open(invocation, out, [...paths, data, file], opened);
    const started = await start();
    const { tokenModel: model, tokenizer, backend, cfg } = started;
    const sampling = { ...choice, guidance: namedGuidanceOf(values, started) };
    const scales = given ?? [preset?.scaleByTokens?.[tokens] ?? cfg];
    if (!model) throw new DetailFlowError('unsupported', 'this model has no AR part');
    const { classes } = model;
    const extractor = await openExtractor(file, backend);
    const queue = await openQueue(invocation, values);
    try {
      const part = values.flag('all-images') || preset ? 'all' : 'held-out';
      const real = await run.real(data, { extractor, view, part, division });
      const training = values.flag('train')
        ? await trainingImages(run, data, { extractor, view, backend, division })
        : undefined;
      const pictures = values.flag('save-images');
      const rowsOf = firstPictureSeeds(seeds, count);
      const elsewhere =
        queue &&
        evaluationElsewhere(
          queue,
          {
            ...{ ...sizes, count, classes, labels, pictures },
            sampling: asJson(sampling) as typeof sampling,
            rows: scales.flatMap((cfg) => rowsOf.map((firstSeed) => ({ cfg, firstSeed }))),
          },
          {
            ...{ extractor, hints: modelHints(invocation) },
            side: sizes.evalSize ?? sizes.size ?? tokenizer.resolution(tokens),
            model: await modelIdentity(values, opened),
            title: `evaluation of ${values.text('model') ?? values.text('ar')}`,
          },
        );
      const copied: ({ cfg: number; seed: number } & Copies)[] = [];
      const rows = await run.counting('images', (onProgress) =>
        evaluateGeneration({
          ...{ model, tokenizer, classes, count, scales, seeds, labels, sampling, extractor, backend },
          classNames: opened.card?.classNames,
          ...sizes,
          real: real.reference,
          store: run.store,
          keepPictures: pictures,
          elsewhere,
          signal: run.signal,
          onProgress,
          async onRow({ cfg, seed, firstSeed }, drawn) {
            run.invocation.progress.stop();
            if (pictures) {
              const name = path.join(out, `images-cfg${cfg}-seed${seed}.npz`);
              await writeFileAtomically(name, (write) =>
                writeImageArchive(drawn.source, write, { signal: run.signal }),
              );
            }
            const unseen = part === 'held-out' ? real.features : undefined;
            const nearness = unseen && training?.copies(drawn, unseen);
            if (nearness) copied.push({ cfg, seed, ...nearness });
            if (seed !== seeds[0]) return;
            const shown = Math.min(MOST_CLASSES, classes);
            const rowClasses = evenlySpaced(classes, shown);
            const chosen = Int32Array.from({ length: shown * COLUMNS }, (_, i) => rowClasses[i % shown]);
            const few = { ...sampling, model, tokenizer, classes, chosen, seed: firstSeed, cfg };
            const sheet = generatedSource({ ...few, count: shown * COLUMNS, ...sizes });
            const images = await sheet.read(0, shown * COLUMNS, run);
            const inOrder = picturesOf(images); // image i is of row i mod shown: one row a class
            const byClass = inOrder.map((_, i) => inOrder[(i % COLUMNS) * shown + Math.floor(i / COLUMNS)]);
            const caption = `Samples, CFG ${cfg}, one row a class`;
            await run.picture(`samples-cfg${cfg}.png`, caption, gridPicture(byClass, { columns: COLUMNS }));
            if (cfg === scales[0]) await training?.showNearest(drawn);
          },
        }),
      );
      const floor = await training?.floor(real.reference, real.features?.count);
      await training?.close();
      const knowsClasses = real.features !== undefined && extractor.classes === classes;
      const different = knowsClasses
        ? differentClass(
            { of: 'the network', names: extractor.classNames },
            { of: data, names: real.classNames },
          )
        : undefined;
      const accuracy =
        real.features && knowsClasses && different === undefined
          ? classAgreement(real.features).all
          : undefined;
      const summary = summariseScales(rows);
      const title = `Pictures of ${values.text('model') ?? values.text('ar')} against ${data}`;
      // Rows of classes are of drawn pictures.
      const classNames = opened.card?.classNames ?? real.classNames;
      const network = extractor.name;
      const page = generationReport({
        ...{ title, count, labels, network, rows, classNames, floor, accuracy },
        pictures: run.pictures,
      });
      const lines = generationLines({
        count,
        labels,
        network,
        summary,
        floor,
        accuracy,
        seeds: seeds.length,
      });
      const { note } = real;
      const warnings = [
        ...new Set(rows.flatMap((row) => row.warnings)),
        ...(different === undefined
          ? []
          : [`the accuracy of the network on real images is not said: ${different}`]),
        ...(note === undefined ? [] : [note]),
      ];
      return await run.finish(
        'generation',
        {
          lines: [...lines, ...copied.map(copyLine), ...warnings, ...(queue ? machineLines(queue) : [])],
          json: {
            ...{ count, labels, real: real.features?.count, network, accuracy, seeds, summary, rows, floor },
            ...(copied.length > 0 && { copies: copied }),
            ...(queue && { machines: queue.machines }),
            ...(note !== undefined && { note }),
          },
        },
        page,
      );
    } catch (error) {
      if (!wasInterrupted(error, run.signal)) throw error;
      throw new InterruptedError(await leftLines(queue, values), { cause: error });
    } finally {
      await queue?.close();
      await extractor.dispose();
    }
  });
}

function seedsOf(values: Values, count: number): number[] {
  const seeds = parseList(values.text('seed') ?? '0', '--seed');
  try {
    firstPictureSeeds(seeds, count);
  } catch (error) {
    throw DetailFlowError.isInstance(error) ? new UsageError(`--seed: ${error.message}`) : error;
  }
  return seeds;
}

function scalesOf(values: Values): number[] | undefined {
  const text = values.text('cfg');
  if (text === undefined) return undefined;
  const scales = text.split(',').map(Number);
  if (!scales.every((scale) => Number.isFinite(scale) && scale >= 0)) {
    throw new UsageError('--cfg: give numbers such as 1,1.5,2');
  }
  if (new Set(scales).size < scales.length) throw new UsageError('--cfg: give different numbers');
  return scales;
}

/** What the training images tell: how far apart two real sets are, and whether pictures are copies. */
async function trainingImages(
  run: EvaluationRun,
  data: string,
  options: {
    readonly extractor: Extractor;
    readonly view: CenterViewOptions;
    readonly backend: Backend;
    readonly division: ImageDivision;
  },
) {
  const { extractor, view, backend, division } = options;
  const train = await run.readable(data, await division.open(data), 'train');
  const source = datasetSource(train, view);
  const all = await run.features(source, extractor);
  return {
    close: () => train.close?.(),
    /** As many training images as there are real ones to compare with. */
    async floor(real: Reference, count = all.count): Promise<Comparison> {
      const chosen = evenlySpaced(all.count, count);
      const part = subset(train, chosen, `${train.name}, ${chosen.length} of them`);
      const some = await run.features(datasetSource(part, view), extractor);
      return compareFeatures(some, real, { backend, signal: run.signal });
    },
    /** Whether pictures lie nearer to training images than real ones that are new. */
    copies: ({ features }: DrawnPictures, heldOut: FeatureSet): Copies =>
      copies({ drawn: features.pool, heldOut: heldOut.pool, train: all.pool }, features.width),
    /** 40 pictures over their nearest training images. */
    async showNearest({ source: drawn, features }: DrawnPictures): Promise<void> {
      const columns = Math.min(COLUMNS, features.count);
      const shown = Math.min(NEAREST, features.count - (features.count % columns)); // whole rows
      const { width } = features;
      const nearest = nearestNeighbours(features.pool.subarray(0, shown * width), all.pool, width);
      const top = picturesOf(await drawn.read(0, shown, run));
      const bottom = [];
      for (const index of nearest) bottom.push(...picturesOf(await source.read(index, 1, run)));
      const rows = [];
      for (let at = 0; at < shown; at += columns) {
        for (const line of [top, bottom]) rows.push(line.slice(at, at + columns));
      }
      const caption = 'Pictures over their nearest training images';
      await run.picture('nearest-neighbours.png', caption, gridPicture(rows.flat(), { columns }));
    },
  };
}

const copyLine = ({ cfg, seed, share, drawn, heldOut }: { cfg: number; seed: number } & Copies) =>
  `CFG ${cfg}, seed ${seed}: ${(100 * share).toFixed(1)} % nearer to a training image than all but ${100 * COPY_QUANTILE} % of the held-out ones; median distance ${drawn.toFixed(3)}, of held-out ones ${heldOut.toFixed(3)}`;

function generationLines(results: {
  readonly count: number;
  readonly labels: PictureLabels;
  readonly network: string;
  readonly summary: ReturnType<typeof summariseScales>;
  readonly floor?: Comparison;
  readonly accuracy?: number;
  readonly seeds: number;
}): string[] {
  const { count, labels, network, summary, floor, accuracy, seeds } = results;
  const columns = [
    { head: 'Frechet', figure: 'frechet', digits: 3, factor: 1 },
    { head: 'precision', figure: 'precision', digits: 3, factor: 1 },
    { head: 'recall', figure: 'recall', digits: 3, factor: 1 },
    { head: 'IS', figure: 'inceptionScore', digits: 2, factor: 1 },
    { head: 'KID', figure: 'kernelDistance', digits: 5, factor: 1 },
    { head: 'class, %', figure: 'agreement', digits: 2, factor: 100 },
  ] as const;
  const width = seeds > 1 ? 21 : 11;
  const cell = (text: string) => text.padStart(width);
  const dash = cell('-');
  return [
    `${count} pictures of ${labels} classes${seeds > 1 ? ` with each of ${seeds} seeds (mean ± half the range)` : ''}, features of ${network}`,
    `CFG    ${columns.map(({ head }) => cell(head)).join('')}`,
    ...summary.map(
      (one) =>
        `${one.cfg}`.padEnd(7) +
        columns
          .map(({ figure, digits, factor }) => {
            const found = one[figure];
            if (!found) return dash;
            const spread = seeds > 1 ? ` ± ${(factor * found.spread).toFixed(digits)}` : '';
            return cell((factor * found.mean).toFixed(digits) + spread);
          })
          .join(''),
    ),
    ...(floor
      ? [
          'train  '.padEnd(7) +
            columns
              .map(({ figure, digits }) => {
                const found = figure === 'agreement' ? undefined : floor[figure];
                return found === undefined ? dash : cell(found.toFixed(digits));
              })
              .join(''),
        ]
      : []),
    ...(accuracy === undefined
      ? []
      : [`accuracy of the network on real images: ${(100 * accuracy).toFixed(2)} %`]),
  ];
}

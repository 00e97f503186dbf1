import { mkdir, stat } from 'node:fs/promises';
import path from 'node:path';
import type { FamilyModel } from '@detailflow/checkpoint';
import { openFile, writeFileAtomically } from '@detailflow/checkpoint/node';
import type { Picture } from '@detailflow/core';
import {
  type CenterViewOptions,
  emptyClasses,
  type ImageDataset,
  openNpz,
  pictureFromBytes,
  type SourceUse,
  upscaleNearest,
  useLines,
  withSkipped,
} from '@detailflow/data';
import type { OpenedDataset } from '@detailflow/data/node';
import {
  addSection,
  type ByteImages,
  collectFeatures,
  datasetSource,
  type Extractor,
  type FeatureSet,
  type FeatureStatistics,
  findStatistics,
  type ImageSource,
  type Reference,
  type ReportPicture,
  readableImages,
  type ShardStore,
  sourceSection,
} from '@detailflow/eval';
import { fileStamp, folderStore } from '@detailflow/eval/node';
import { isDetailFlow } from '../../detailflow-family';
import { type Invocation, type Report, UsageError } from '../command';
import { namedFolder } from '../model-options';
import type { Values } from '../values';
import type { ImageDivision } from './image-division';

/** What a part of a data set gave. */
interface UsedSource extends SourceUse {
  readonly source: string;
  readonly part: 'train' | 'held-out' | 'all';
}

/** Real images as an evaluation uses them. */
export interface RealImages {
  readonly reference: Reference;
  /** Where the images themselves are at hand. */
  readonly features?: FeatureSet;
  readonly classNames: readonly string[];
  /** What is to be said of how they were chosen. */
  readonly note?: string;
}

/** The folder, the progress and the files of an evaluation. */
export class EvaluationRun {
  readonly pictures: ReportPicture[] = [];
  readonly #sources: UsedSource[] = [];

  private constructor(
    readonly invocation: Invocation,
    readonly out: string,
    readonly store: ShardStore,
  ) {}

  /**
   * @param files what the figures depend on: folders and files of models, networks and images
   * @param model whose configuration may depend on more than its files: on settings, and on what lies beside them
   */
  static async open(
    invocation: Invocation,
    out: string,
    files: readonly (string | undefined)[],
    model?: FamilyModel,
  ): Promise<EvaluationRun> {
    await mkdir(out, { recursive: true });
    const stamp = await fileStamp(files.filter((file) => file !== undefined));
    const origin = model && !isDetailFlow(model) ? `${stamp} ${configurations(model)}` : stamp;
    return new EvaluationRun(invocation, out, folderStore(path.join(out, 'kept'), { origin }));
  }

  get signal(): AbortSignal {
    return this.invocation.signal;
  }

  /** Shows how far `work` has come. */
  async counting<T>(
    unit: string,
    work: (onProgress: (done: number, total: number) => void) => Promise<T>,
  ): Promise<T> {
    const { progress } = this.invocation;
    let [known, expected] = [0, -1];
    try {
      return await work((done, total) => {
        if (total !== expected || done < known) {
          progress.stop();
          progress.start(total, unit);
          [known, expected] = [0, total];
        }
        progress.advance(done - known);
        known = done;
      });
    } finally {
      progress.stop();
    }
  }

  features(source: ImageSource, extractor: Extractor): Promise<FeatureSet> {
    const { store, signal } = this;
    return this.counting('images', (onProgress) =>
      collectFeatures(source, { extractor, store, signal, onProgress }),
    );
  }

  /**
   * The images of a part of a data set that can be read. What is used, and what is not and why, becomes a part of the report.
   */
  async readable(
    source: string,
    opened: OpenedDataset,
    part: 'train' | 'held-out' | 'all',
  ): Promise<ImageDataset> {
    const { store, signal } = this;
    const chosen = part === 'train' ? opened.train : chosenPart(opened, part);
    // Of a source that has a test part of its own, all that is measured is that.
    const called = part === 'all' && chosen === opened.heldOut ? 'held-out' : part;
    const { dataset, skipped } = await this.counting('images to be read', (onProgress) =>
      readableImages(chosen, { store, signal, onProgress }),
    );
    const use = {
      ...{ images: chosen.labels.length, classes: chosen.classNames.length },
      ...{ ...emptyClasses(dataset), unused: opened.use.unused },
    };
    this.#sources.push({ source, part: called, ...withSkipped(use, skipped) });
    return dataset;
  }

  /** What is to be said of the sources of images. */
  sources(): Report {
    const titled = this.#sources.map((one) => ({ title: `${one.source} (${one.part})`, ...one }));
    return {
      lines: titled.flatMap(({ title, ...use }) => {
        const [first, ...rest] = useLines(use);
        return [`${title}: ${first}`, ...rest];
      }),
      json: { sources: this.#sources },
    };
  }

  /** Real images: a data set, or a .npz file of statistics, with images or without. */
  async real(
    data: string,
    options: {
      readonly extractor: Extractor;
      readonly view?: CenterViewOptions;
      readonly part: 'held-out' | 'all';
      readonly division: ImageDivision;
    },
  ): Promise<RealImages> {
    const { extractor, view, part, division } = options;
    const archive = await inspectArchive(data);
    if (archive?.statistics && !archive.hasImages) {
      return { reference: { statistics: archive.statistics }, classNames: [] };
    }
    const opened = await division.open(data);
    const dataset = await this.readable(data, opened, part);
    try {
      const features = await this.features(datasetSource(dataset, view), extractor);
      const statistics = archive?.statistics ?? features.statistics;
      return {
        reference: { statistics, pool: features.pool, labels: features.labels },
        features,
        classNames: dataset.classNames,
        ...(part === 'held-out' && opened.note !== undefined && { note: opened.note }),
      };
    } finally {
      await dataset.close?.();
    }
  }

  /** Writes a picture into the folder and keeps it for the report. */
  async picture(name: string, caption: string, picture: Picture): Promise<void> {
    const scale = Math.max(1, Math.floor(700 / picture.width));
    const png = await upscaleNearest(picture, scale).toPng();
    await writeFileAtomically(path.join(this.out, name), (write) => write(png));
    this.pictures.push({ caption, png });
  }

  /** Writes the figures and the page, and says where they are. */
  async finish(what: string, figures: Report, page: string): Promise<Report> {
    const encoder = new TextEncoder();
    const sources = this.sources();
    const results = {
      lines: [...figures.lines, ...sources.lines],
      json: { ...figures.json, ...sources.json },
    };
    const [file, report] = [path.join(this.out, `${what}.json`), path.join(this.out, `${what}.html`)];
    const text = `${JSON.stringify(results.json, undefined, 2)}\n`;
    const whole = this.#sources.reduce(
      (before, { source, part, ...use }) =>
        addSection(before, sourceSection(`Images of ${source} (${part})`, use)),
      page,
    );
    await writeFileAtomically(file, (write) => write(encoder.encode(text)));
    await writeFileAtomically(report, (write) => write(encoder.encode(whole)));
    return { ...results, lines: [...results.lines, `figures: ${file}`, `report: ${report}`] };
  }
}

const configurations = ({ tokenizer, ar }: FamilyModel): string =>
  JSON.stringify([tokenizer.config, ar?.config]);

/** All images means the test part where there is one. */
const chosenPart = ({ heldOut, whole }: OpenedDataset, part: 'held-out' | 'all'): ImageDataset =>
  part === 'all' ? (whole ?? heldOut) : heldOut;

/** The folder that an option names, or that the package it names holds. */
export function modelPath(values: Values, name: string): string | undefined {
  const text = values.text(name);
  if (values.flag('partial')) {
    throw new UsageError(
      '--partial: an evaluation keeps what it finds by the content of the model, which must be here',
    );
  }
  return text === undefined ? undefined : namedFolder(text);
}

/** Images as pictures. */
export function picturesOf(images: ByteImages): Picture[] {
  return Array.from({ length: images.count }, (_, i) => pictureFromBytes(images, i));
}

async function inspectArchive(
  file: string,
): Promise<{ statistics?: FeatureStatistics; hasImages: boolean } | undefined> {
  if (!file.endsWith('.npz') || !(await stat(file).catch(() => undefined))?.isFile()) return undefined;
  const source = await openFile(file);
  try {
    const arrays = await openNpz(source);
    const hasImages = [...arrays.values()].some(({ dtype, shape }) => dtype === 'uint8' && shape.length >= 3);
    return { statistics: await findStatistics(arrays, file), hasImages };
  } finally {
    await source.close();
  }
}

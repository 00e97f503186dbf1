import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { writeFileAtomically } from '@detailflow/checkpoint/node';
import { ConfigFields, checkOptions, DetailFlowError } from '@detailflow/core';
import { type NpyArray, readNpy, writeNpy } from '@detailflow/data';
import { readFileCapped } from '@detailflow/data/node';
import { type TokenizerConfig, toOfficialTokenizerConfig } from '@detailflow/tokenizer';
import type { RunConfig } from '../family-config';
import type { CodeRows, CodeStore } from './code-store';

const ROWS = 3;
const MOST_FILE_BYTES = 2 ** 26;
/** Files whose content tells one set of codes from another. */
const SAMPLED = 64;

/** What codes must be of, to be learned with a tokenizer. */
export interface CodesOf {
  readonly tokenizer: TokenizerConfig;
  /** Side of the images in pixels, and their tokens. */
  readonly size: number;
  readonly tokens: number;
  readonly classes: number;
}

/**
 * Codes as the official script keeps them: `NAME.json`, and for every image `NAMEsize_codes/i.npy`, int64 [1, views, n, 3], and
 * `NAMEsize_labels/i.npy`, int64 [1]. Several folders are views of the same images, such as those of crop ranges 1.1 and 1.05.
 */
export class OfficialCodes {
  private constructor(
    /** Class of every image. */
    readonly labels: Int32Array,
    readonly header: { readonly images: number; readonly views: number; readonly tokens: number },
    /** Tells these codes from others. */
    readonly origin: string,
    private readonly folders: readonly string[],
    private readonly of: CodesOf,
  ) {}

  /**
   * @throws DetailFlowError `io`; `config` when the codes are of another tokenizer, another size or other images; `format` when files
   *   are missing or damaged
   */
  static async open(folders: readonly string[], of: CodesOf): Promise<OfficialCodes> {
    checkOptions('OfficialCodes.open', of, { tokenizer: true, size: true, tokens: true, classes: true });
    const found = await Promise.all(folders.map((folder) => placesOf(folder, of)));
    const [first, ...others] = found;
    for (const [i, { images }] of others.entries()) {
      if (images === first.images) continue;
      throw new DetailFlowError(
        'config',
        `has codes of ${images} images, the first folder of ${first.images}`,
        {
          file: folders[i + 1],
        },
      );
    }
    const labels = new Int32Array(first.images);
    const hash = createHash('sha256');
    for (let i = 0; i < first.images; i++)
      labels[i] = await labelOf(path.join(first.labels, `${i}.npy`), of.classes);
    hash.update(labels);
    let views: number | undefined;
    for (const { codes } of found) {
      for (let at = 0; at < Math.min(SAMPLED, first.images); at++) {
        const image = Math.floor((at * first.images) / Math.min(SAMPLED, first.images));
        const file = path.join(codes, `${image}.npy`);
        const { shape, data } = await codesIn(file, of);
        views ??= shape[1];
        if (shape[1] !== views)
          throw new DetailFlowError('format', `has ${shape[1]} views, others ${views}`, { file });
        hash.update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
      }
    }
    const header = { images: first.images, views: (views ?? 0) * folders.length, tokens: of.tokens };
    const places = found.map(({ codes }) => codes);
    return new OfficialCodes(labels, header, hash.digest('hex').slice(0, 32), places, of);
  }

  /** The rows of one view of an image. @throws DetailFlowError `io`, `format` */
  async read(image: number, view: number): Promise<CodeRows> {
    const { views, tokens } = this.header;
    const each = views / this.folders.length;
    const file = path.join(this.folders[Math.floor(view / each)], `${image}.npy`);
    const { data, shape } = await codesIn(file, this.of);
    if (shape[1] !== each)
      throw new DetailFlowError('format', `has ${shape[1]} views, others ${each}`, { file });
    const start = (view % each) * tokens * ROWS;
    const row = (kind: number) =>
      Uint16Array.from({ length: tokens }, (_, i) => Number(data[start + i * ROWS + kind]));
    return { clean: row(0), input: row(1), target: row(2) };
  }

  /** Nothing stays open between reads. */
  async close(): Promise<void> {}
}

/** The folders of codes and labels, once the description fits. */
async function placesOf(
  folder: string,
  of: CodesOf,
): Promise<{ codes: string; labels: string; images: number }> {
  const names = await readdir(folder).catch((cause) => {
    throw new DetailFlowError('io', `cannot be opened (${cause.code})`, { file: folder, cause });
  });
  const descriptions = names.filter((name) => name.endsWith('.json'));
  if (descriptions.length !== 1) {
    throw new DetailFlowError(
      'format',
      `has ${descriptions.length} .json files; one must say what the codes are of`,
      {
        file: folder,
      },
    );
  }
  const file = path.join(folder, descriptions[0]);
  await checkDescription(file, of);
  const name = descriptions[0].slice(0, -'.json'.length);
  const [codes, labels] = ['codes', 'labels'].map((what) => path.join(folder, `${name}${of.size}_${what}`));
  const [images, classes] = await Promise.all([codes, labels].map(countOf));
  if (images === classes && images > 0) return { codes, labels, images };
  throw new DetailFlowError('format', `has codes of ${images} images and ${classes} labels`, {
    file: folder,
  });
}

async function checkDescription(file: string, { tokenizer, size, tokens }: CodesOf): Promise<void> {
  let value: unknown;
  try {
    value = JSON.parse(await readFile(file, 'utf8'));
  } catch (cause) {
    throw new DetailFlowError('format', 'is no JSON', { file, cause });
  }
  const fields = new ConfigFields(value, { file });
  const groupSize = fields.count('group_size');
  const said: readonly [string, number, number][] = [
    ['ar_image_size', fields.count('ar_image_size'), size],
    ['ar_token_num', fields.count('ar_token_num'), tokens],
    ['codebook_size', fields.count('codebook_size'), tokenizer.codebookSize],
    ['group_size', groupSize, tokenizer.groupSize],
    ['causal_num', fields.count('causal_num', groupSize, 0), tokenizer.causalTokens],
  ];
  for (const [entry, is, must] of said) {
    if (is === must) continue;
    throw new DetailFlowError(
      'config',
      `is ${is}, the tokenizer and the settings need ${must}: the codes are of another one`,
      {
        ...{ file, entry },
      },
    );
  }
}

/** Files 0.npy, 1.npy, ... without a gap. */
async function countOf(folder: string): Promise<number> {
  const names = await readdir(folder).catch((cause) => {
    throw new DetailFlowError('io', `cannot be opened (${cause.code})`, { file: folder, cause });
  });
  const there = new Set(names.filter((name) => /^\d+\.npy$/.test(name)));
  for (let i = 0; i < there.size; i++) {
    if (!there.has(`${i}.npy`)) {
      throw new DetailFlowError('format', `lacks ${i}.npy, though there are ${there.size} files`, {
        file: folder,
      });
    }
  }
  return there.size;
}

const arrayIn = async (file: string): Promise<NpyArray> => {
  const bytes = await readFileCapped(file, MOST_FILE_BYTES);
  return readNpy(bytes, { file });
};

async function labelOf(file: string, classes: number): Promise<number> {
  const { data } = await arrayIn(file);
  const label = data.length === 1 ? Number(data[0]) : Number.NaN;
  if (Number.isInteger(label) && label >= 0 && label < classes) return label;
  throw new DetailFlowError(
    'format',
    `holds ${data.length === 1 ? label : `${data.length} values`}; must be one class from 0 to ${classes - 1}`,
    {
      file,
    },
  );
}

async function codesIn(file: string, { tokens, tokenizer: { codebookSize } }: CodesOf) {
  const { data, shape, dtype } = await arrayIn(file);
  const isShape = shape.length === 4 && shape[0] === 1 && shape[2] === tokens && shape[3] === ROWS;
  if (!isShape || dtype.startsWith('float')) {
    throw new DetailFlowError(
      'format',
      `holds ${dtype} [${shape}]; codes are integers [1, views, ${tokens}, ${ROWS}]`,
      { file },
    );
  }
  for (const code of data) {
    if (code >= 0 && code < codebookSize) continue;
    throw new DetailFlowError('format', `holds the code ${code}; there are 0 to ${codebookSize - 1}`, {
      file,
    });
  }
  return { data: data as BigInt64Array, shape };
}

/**
 * Writes codes in the official layout, for the official training. Files that are there are replaced.
 * @throws DetailFlowError `io`
 */
export async function writeOfficialCodes(
  store: CodeStore,
  options: {
    readonly folder: string;
    readonly name: string;
    readonly labels: Int32Array;
    readonly of: Omit<CodesOf, 'classes'>;
    readonly signal?: AbortSignal;
  },
): Promise<void> {
  checkOptions('writeOfficialCodes', options, {
    folder: true,
    name: true,
    labels: true,
    of: true,
    signal: true,
  });
  const { folder, name, labels, of, signal } = options;
  const { tokens, views } = store.header;
  const [codes, classes] = ['codes', 'labels'].map((what) => path.join(folder, `${name}${of.size}_${what}`));
  for (const place of [codes, classes]) await mkdir(place, { recursive: true });
  const put = (file: string, shape: readonly number[], data: BigInt64Array) =>
    writeFileAtomically(file, (write) => write(writeNpy({ shape, data })));
  for (const [image, label] of labels.entries()) {
    signal?.throwIfAborted();
    const data = new BigInt64Array(views * tokens * ROWS);
    for (let view = 0; view < views; view++) {
      const { clean, input, target } = await store.read(image, view);
      for (const [kind, row] of [clean, input, target].entries()) {
        for (let i = 0; i < tokens; i++) data[(view * tokens + i) * ROWS + kind] = BigInt(row[i]);
      }
    }
    await put(path.join(codes, `${image}.npy`), [1, views, tokens, ROWS], data);
    await put(path.join(classes, `${image}.npy`), [1], BigInt64Array.of(BigInt(label)));
  }
  const { config } = toOfficialTokenizerConfig(of.tokenizer);
  const text = JSON.stringify({ ...config, ar_image_size: of.size, ar_token_num: of.tokens }, undefined, 4);
  await writeFileAtomically(path.join(folder, `${name}.json`), (write) =>
    write(new TextEncoder().encode(text)),
  );
}

/** DetailFlow's tokenizer: only its codes have an official form here. @throws DetailFlowError `unsupported` */
export function detailflowTokenizer(config: RunConfig, entry: 'codes' | 'saveCodes'): TokenizerConfig {
  if (!('family' in config)) return config.tokenizer.model;
  throw new DetailFlowError(
    'unsupported',
    `only codes of DetailFlow are read and written so, not of ${config.family}`,
    {
      entry,
    },
  );
}

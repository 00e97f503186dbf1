import { type FileHandle, open, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { writeFileAtomically } from '@detailflow/checkpoint/node';
import { ConfigFields, DetailFlowError } from '@detailflow/core';

/** What a folder of codes holds. */
export interface CodeStoreHeader {
  readonly images: number;
  /** Views of every image. */
  readonly views: number;
  /** Tokens of a row. */
  readonly tokens: number;
  readonly codebookSize: number;
  /** Images of a file. */
  readonly shard: number;
  /** What the codes are of and made by: codes of another origin are refused. */
  readonly origin: string;
}

/** The three index rows of a view, each N codes: see `CorrectedCodes` of the tokenizer. */
export interface CodeRows {
  readonly clean: Uint16Array;
  readonly input: Uint16Array;
  readonly target: Uint16Array;
}

const HEADER = 'codes.json';
const ROWS = 3;

/**
 * Codes on disk: a header codes.json, and files shard-NNNNN.bin of little-endian 16-bit numbers
 * [images of the shard, views, 3, N], written one by one and read at random.
 */
export class CodeStore {
  readonly header: CodeStoreHeader;
  readonly #folder: string;
  readonly #files = new Map<number, Promise<FileHandle>>();

  private constructor(folder: string, header: CodeStoreHeader) {
    this.#folder = folder;
    this.header = header;
  }

  /**
   * Opens a folder that is there, or begins a new one. Its files must be of the same origin and sizes.
   * @throws DetailFlowError `config` when the folder holds other codes
   */
  static async begin(folder: string, header: CodeStoreHeader): Promise<CodeStore> {
    const before = await readFile(path.join(folder, HEADER), 'utf8').catch(() => undefined);
    const text = JSON.stringify(header, undefined, 2);
    if (before !== undefined && before !== text) {
      throw new DetailFlowError(
        'config',
        'the folder holds codes of another tokenizer, of other images, or made with other settings; remove it to have them made anew',
        {
          file: folder,
        },
      );
    }
    await writeFileAtomically(path.join(folder, HEADER), (write) => write(new TextEncoder().encode(text)));
    return new CodeStore(folder, header);
  }

  /** Opens a folder that is there. @throws DetailFlowError `io`, `format` or `config` */
  static async open(folder: string): Promise<CodeStore> {
    const file = path.join(folder, HEADER);
    const text = await readFile(file, 'utf8').catch((cause) => {
      const isMissing = cause.code === 'ENOENT';
      const message = 'there are no codes; make them first (detailflow train codes)';
      throw new DetailFlowError('io', isMissing ? message : `cannot be read (${cause.code})`, {
        file,
        cause,
      });
    });
    const fields = new ConfigFields(parseJson(text, file), { file });
    const origin = fields.raw('origin');
    return new CodeStore(folder, {
      images: fields.count('images'),
      views: fields.count('views'),
      tokens: fields.count('tokens'),
      codebookSize: fields.count('codebookSize'),
      shard: fields.count('shard'),
      origin: typeof origin === 'string' ? origin : '',
    });
  }

  /** Numbers of the shards. */
  get shards(): number {
    return Math.ceil(this.header.images / this.header.shard);
  }

  /** Images first .. first + count - 1 are those of a shard. */
  range(shard: number): { first: number; count: number } {
    const first = shard * this.header.shard;
    return { first, count: Math.min(this.header.shard, this.header.images - first) };
  }

  /** Whether a shard is written. */
  async has(shard: number): Promise<boolean> {
    const found = await stat(this.#path(shard)).catch(() => undefined);
    return found?.size === this.#bytes(shard);
  }

  /** Writes a shard, all of it or nothing. @param codes [images of the shard, views, 3, N] */
  async write(shard: number, codes: Uint16Array): Promise<void> {
    if (2 * codes.length !== this.#bytes(shard)) {
      throw new DetailFlowError('shape', `${codes.length} codes do not make shard ${shard}`, {
        file: this.#folder,
      });
    }
    const bytes = new Uint8Array(codes.buffer, codes.byteOffset, codes.byteLength);
    await writeFileAtomically(this.#path(shard), (write) => write(bytes));
  }

  /**
   * The rows of one view of an image.
   * @throws DetailFlowError `io` when the shard is missing, `format` when it holds impossible codes
   */
  async read(image: number, view: number): Promise<CodeRows> {
    const { tokens, views, shard: size, codebookSize } = this.header;
    const shard = Math.floor(image / size);
    const length = ROWS * tokens;
    const bytes = Buffer.alloc(2 * length);
    const handle = await this.#open(shard);
    const { bytesRead } = await handle.read(
      bytes,
      0,
      bytes.length,
      ((image % size) * views + view) * bytes.length,
    );
    const rows = new Uint16Array(bytes.buffer, bytes.byteOffset, length);
    if (bytesRead !== bytes.length || rows.some((code) => code >= codebookSize)) {
      throw new DetailFlowError(
        'format',
        `the codes of image ${image} are cut off or impossible; make them again`,
        {
          file: this.#path(shard),
        },
      );
    }
    const row = (i: number) => rows.subarray(i * tokens, (i + 1) * tokens);
    return { clean: row(0), input: row(1), target: row(2) };
  }

  /** Frees what it holds, files included. */
  async close(): Promise<void> {
    for (const file of this.#files.values()) await (await file).close();
    this.#files.clear();
  }

  #open(shard: number): Promise<FileHandle> {
    const known = this.#files.get(shard);
    if (known) return known;
    const file = this.#path(shard);
    const opened = open(file, 'r').catch((cause) => {
      this.#files.delete(shard);
      throw new DetailFlowError('io', `cannot be opened (${cause.code}); make the codes first`, {
        file,
        cause,
      });
    });
    this.#files.set(shard, opened);
    return opened;
  }

  #path(shard: number): string {
    return path.join(this.#folder, `shard-${String(shard).padStart(5, '0')}.bin`);
  }

  #bytes(shard: number): number {
    const { views, tokens } = this.header;
    return 2 * this.range(shard).count * views * ROWS * tokens;
  }
}

function parseJson(text: string, file: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new DetailFlowError('format', 'it is not JSON', { file, cause });
  }
}

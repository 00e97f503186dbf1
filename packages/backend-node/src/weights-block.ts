import { rmSync } from 'node:fs';
import { type FileHandle, mkdtemp, open, rm, statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DetailFlowError } from '@detailflow/core';
import type { FilePlacement } from '@detailflow/onnx';

/** Weights in memory, under the name that placements give as their file. */
export interface MemoryBlock {
  readonly name: string;
  readonly data: Uint8Array<ArrayBuffer>;
}

/** Collects weights that will be one block. */
export interface WeightsBlock extends AsyncDisposable {
  add(part: ArrayBufferView): Promise<FilePlacement>;
  /** The block, which is then the caller's: memory, or a folder with a file to be removed by `release`. */
  finish(): Promise<FinishedBlock>;
}

export interface FinishedBlock {
  readonly memory?: MemoryBlock;
  readonly folder?: string;
  readonly release: () => Promise<void>;
}

/** Blocks of so many bytes go into a file. */
const LARGE = 256 * 2 ** 20;
const NAME = 'detailflow-weights';
const ALIGNMENT = 64;

/**
 * A block of weights: in memory, or, if it may be large, in a temporary file, from which ONNX Runtime maps what it packs, so that weights
 * are held once and not three times. Without room in the folder for temporary files, and on Windows, which does not remove mapped files, in
 * memory all the same.
 * @param most bytes that it may have
 */
export async function openBlock(most: number): Promise<WeightsBlock> {
  if (most < LARGE || process.platform === 'win32') return new BlockInMemory();
  try {
    const { bavail, bsize } = await statfs(tmpdir());
    if (bavail * bsize < 2 * most) return new BlockInMemory();
    const folder = await mkdtemp(path.join(tmpdir(), 'detailflow-'));
    return new BlockInFile(folder, await open(path.join(folder, NAME), 'wx', 0o600));
  } catch {
    return new BlockInMemory();
  }
}

class BlockInMemory implements WeightsBlock {
  readonly #parts: Uint8Array[] = [];
  #size = 0;

  async add({ buffer, byteOffset, byteLength }: ArrayBufferView): Promise<FilePlacement> {
    const placement = { file: NAME, offset: this.#size, length: byteLength };
    this.#parts.push(new Uint8Array(buffer, byteOffset, byteLength));
    this.#size += aligned(byteLength);
    return placement;
  }

  async finish(): Promise<FinishedBlock> {
    const release = async () => {};
    if (this.#parts.length === 0) return { release };
    const data = new Uint8Array(this.#size);
    let at = 0;
    for (let part = this.#parts.shift(); part; part = this.#parts.shift()) {
      data.set(part, at);
      at += aligned(part.byteLength);
    }
    return { memory: { name: NAME, data }, release };
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}

class BlockInFile implements WeightsBlock {
  readonly #folder: string;
  readonly #file: FileHandle;
  /** A process that ends before takes the file with it. */
  readonly #onExit = () => rmSync(this.#folder, { recursive: true, force: true });
  #size = 0;
  #isFinished = false;

  constructor(folder: string, file: FileHandle) {
    this.#folder = folder;
    this.#file = file;
    process.once('exit', this.#onExit);
  }

  async add({ buffer, byteOffset, byteLength }: ArrayBufferView): Promise<FilePlacement> {
    const placement = { file: NAME, offset: this.#size, length: byteLength };
    const bytes = new Uint8Array(buffer as ArrayBuffer, byteOffset, byteLength);
    try {
      for (let at = 0; at < byteLength; ) {
        at += (await this.#file.write(bytes, at, byteLength - at, this.#size + at)).bytesWritten;
      }
    } catch (error) {
      throw new DetailFlowError('io', `weights cannot be written: ${(error as Error).message}`, {
        file: path.join(this.#folder, NAME),
        cause: error,
      });
    }
    this.#size += aligned(byteLength);
    return placement;
  }

  async finish(): Promise<FinishedBlock> {
    await this.#file.truncate(this.#size);
    await this.#file.close();
    this.#isFinished = true;
    return { folder: this.#folder, release: () => this.#remove() };
  }

  /** Removes a file that is not finished. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isFinished) return;
    await this.#file.close().catch(() => {});
    await this.#remove();
  }

  async #remove(): Promise<void> {
    await rm(this.#folder, { recursive: true, force: true });
    process.off('exit', this.#onExit);
  }
}

const aligned = (bytes: number): number => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;

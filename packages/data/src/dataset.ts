import { checkOptions, DetailFlowError } from '@detailflow/core';
import { greyToRgb, type RgbImage } from './rgb-image';
import type { UnusedFiles } from './source-use';

/** Images with classes that can be read in any order. */
export interface ImageDataset {
  /** For messages: the path, or what it is. */
  readonly name: string;
  /** In the order of their numbers. */
  readonly classNames: readonly string[];
  /** The class of every image; its length is the number of images. */
  readonly labels: Int32Array;
  /** Of every image its path in the data set, with slashes, where it has one. */
  readonly names?: readonly string[];
  /** What lies in the source and is not used. */
  readonly unused?: readonly UnusedFiles[];
  /** @throws DetailFlowError naming the file when the image cannot be read */
  image(index: number): Promise<RgbImage>;
  /**
   * Where it costs less than the image: bytes that tell what is stored of an image from every other content.
   * @throws DetailFlowError naming the file when it cannot be read
   */
  digest?(index: number): Promise<Uint8Array>;
  /** Gives files and threads back. */
  close?(): Promise<void>;
}

/** A data set whose images lie in memory as bytes of one size. */
export class MemoryDataset implements ImageDataset {
  readonly name: string;
  readonly classNames: readonly string[];
  readonly labels: Int32Array;
  readonly #pixels: Uint8Array;
  readonly #height: number;
  readonly #width: number;
  readonly #channels: 1 | 3;

  /**
   * @param options.pixels [n, height, width, channels]; one channel is grey
   * @throws DetailFlowError `shape` when pixels, labels and names do not fit together
   */
  constructor(options: {
    name: string;
    classNames: readonly string[];
    labels: Int32Array;
    pixels: Uint8Array;
    height: number;
    width: number;
    channels: 1 | 3;
  }) {
    checkOptions('MemoryDataset', options, {
      name: true,
      classNames: true,
      labels: true,
      pixels: true,
      height: true,
      width: true,
      channels: true,
    });
    const { name, labels, pixels, height, width, channels, classNames } = options;
    if (pixels.length !== labels.length * height * width * channels) {
      throw new DetailFlowError(
        'shape',
        `${pixels.length} bytes are not ${labels.length} images of ${width} x ${height} pixels and ${channels} channels`,
        { file: name },
      );
    }
    const wrong = labels.find((label) => label < 0 || label >= classNames.length);
    if (wrong !== undefined) {
      throw new DetailFlowError(
        'format',
        `an image has class ${wrong}, there are ${classNames.length} classes`,
        {
          file: name,
        },
      );
    }
    this.name = name;
    this.classNames = classNames;
    this.labels = labels;
    this.#pixels = pixels;
    this.#height = height;
    this.#width = width;
    this.#channels = channels;
  }

  async image(index: number): Promise<RgbImage> {
    const [height, width, channels] = [this.#height, this.#width, this.#channels];
    const size = height * width * channels;
    const source = this.#pixels.subarray(index * size, (index + 1) * size);
    if (channels === 3) return { data: source, width, height };
    return { data: greyToRgb(source), width, height };
  }
}

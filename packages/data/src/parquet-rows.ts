import { DetailFlowError } from '@detailflow/core';
import type { KeptLatest, Made } from './kept-latest';
import { type Group, pagesOf, readPage, readPlace } from './parquet-page';
import type { DataPage } from './parquet-pages';
import { lastUpTo, type Places } from './parquet-places';

type Bytes = Uint8Array | undefined;

/** Rows of a page. */
interface Span {
  readonly group: Group;
  readonly start: number;
  readonly end: number;
  readonly page: DataPage;
  /** Where its values lie, once it was read and if they can be read apart. */
  places?: Places;
}

/** Values of pages that are kept in memory. */
export type HeldPages = KeptLatest<object, readonly Bytes[]>;

/**
 * Bytes of the images of groups of rows, in any order. The first image of a page costs the page, which also tells where its images lie;
 * they are read from there when the page is no longer held.
 */
export class ParquetRows {
  readonly #groups: readonly Group[];
  readonly #held: HeldPages;
  /** The first row of every group among all. */
  readonly #firsts: readonly number[];
  readonly #spans = new Map<number, Promise<readonly Span[]>>();

  constructor(groups: readonly Group[], held: HeldPages) {
    this.#groups = groups;
    this.#held = held;
    let first = 0;
    this.#firsts = groups.map(({ count }) => {
      first += count;
      return first - count;
    });
  }

  /** The bytes of an image file; undefined where a row has none. @throws DetailFlowError `format`, `io` */
  async bytes(index: number): Promise<Bytes> {
    const at = lastUpTo(this.#firsts.length, (i) => this.#firsts[i] <= index);
    const row = index - this.#firsts[at];
    const known = this.#spans.get(at) ?? spansOf(this.#groups[at]);
    this.#spans.set(at, known);
    const spans = await known.catch((error) => {
      this.#spans.delete(at);
      throw error;
    });
    const span = spans[lastUpTo(spans.length, (i) => spans[i].start <= row)];
    const { group, start, places } = span;
    if (!places || this.#held.has(span))
      return (await this.#held.get(span, () => readSpan(span)))[row - start];
    const place = places.at(row - start);
    return place && sound(group.file.name, () => readPlace(group, place));
  }
}

/** What goes wrong inside the reader is the file's fault. */
export async function sound<T>(file: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (DetailFlowError.isInstance(cause)) throw cause;
    const reason = cause instanceof Error ? cause.message : `${cause}`;
    throw new DetailFlowError('format', `is no sound Parquet file: ${reason}`, { file, cause });
  }
}

/** The rows of a group, page by page. */
async function spansOf(group: Group): Promise<readonly Span[]> {
  const pages = await sound(group.file.name, () => pagesOf(group));
  return pages.map((page, i) => ({
    ...{ group, page, start: page.firstRow, end: pages[i + 1]?.firstRow ?? group.count },
  }));
}

async function readSpan(span: Span): Promise<Made<readonly Bytes[]>> {
  const { group, page, start, end } = span;
  const { values, places } = await sound(group.file.name, () => readPage(group, page, end - start));
  span.places = places;
  const value = values.map((one) => (one instanceof Uint8Array ? one : undefined));
  const buffers = new Set(value.flatMap((one) => (one ? [one.buffer] : [])));
  const bytes = [...buffers].reduce((sum, { byteLength }) => sum + byteLength, 0);
  return { value, bytes, isSpare: places !== undefined };
}

import type { FileMetaData } from 'hyparquet';

type RowGroup = FileMetaData['row_groups'][number];
type ColumnMetaData = NonNullable<RowGroup['columns'][number]['meta_data']>;

/** A page of a column: where it lies in the file, with its header. */
export interface Page {
  readonly offset: number;
  readonly size: number;
}

/** A page of values, the first of its rows in the group, and the page of the values that it has numbers of. */
export interface DataPage extends Page {
  readonly firstRow: number;
  readonly dictionary?: Page;
}

/** Bytes of a header that are read at first, and at most: statistics in it hold whole values. */
const [HEADER, MOST_HEADER] = [256, 1 << 24];
const MOST_PAGES = 1_000_000;
const MOST_UNPACKED = 2 ** 30;
/** Types of pages. */
const [DATA, DICTIONARY, DATA_V2] = [0, 2, 3];
/** Kinds of values. */
const [INTEGER, STRUCT] = [5, 12];
/** Encodings of values as numbers of those in a dictionary. */
const numbered = [2, 8];

/**
 * Finds the pages of a column without repetition by their headers alone.
 * @returns undefined where they cannot be followed, or a header lacks what a reader of the page relies on
 * @throws RangeError when a page unpacks to more than 1 GiB
 */
export async function dataPages(
  read: (offset: number, length: number) => Promise<Uint8Array>,
  column: ColumnMetaData,
  rows: number,
): Promise<readonly DataPage[] | undefined> {
  const first = Number(column.dictionary_page_offset || column.data_page_offset);
  const end = first + Number(column.total_compressed_size);
  const pages: DataPage[] = [];
  let dictionary: Page | undefined;
  let row = 0;
  for (let at = first; at < end && row < rows; ) {
    const header = await headerAt(read, at, end);
    if (!header || pages.length > MOST_PAGES) return undefined;
    const size = header.length + header.size;
    if (header.size < 0 || at + size > end) return undefined;
    if (header.unpacked > MOST_UNPACKED)
      throw new RangeError(
        `the page at byte ${at} unpacks to ${header.unpacked} bytes; at most ${MOST_UNPACKED} are read`,
      );
    if (header.type === DICTIONARY) dictionary = { offset: at, size };
    if (header.type === DATA || header.type === DATA_V2) {
      if (header.values < 1) return undefined;
      const isNumbered = numbered.includes(header.encoding);
      if (isNumbered && !dictionary) return undefined;
      pages.push({ offset: at, size, firstRow: row, ...(isNumbered && { dictionary }) });
      row += header.values;
    }
    at += size;
  }
  return row === rows ? pages : undefined;
}

interface PageHeader {
  readonly type: number;
  /** Bytes of the header, of the page behind it, and of what that unpacks to. */
  readonly length: number;
  readonly size: number;
  readonly unpacked: number;
  /** Values, which are rows where nothing repeats. */
  readonly values: number;
  readonly encoding: number;
}

async function headerAt(
  read: (offset: number, length: number) => Promise<Uint8Array>,
  at: number,
  end: number,
): Promise<PageHeader | undefined> {
  for (let length = HEADER; ; length *= 8) {
    const bytes = await read(at, Math.min(length, end - at));
    try {
      return parseHeader(new CompactReader(bytes));
    } catch (error) {
      if (error instanceof TypeError) return undefined;
      if (!(error instanceof RangeError)) throw error;
      if (length >= MOST_HEADER || at + length >= end) return undefined;
    }
  }
}

/** Fields of the headers of data pages, all whole numbers from 0 on, and which of them are the values and their encoding. */
const layouts: Readonly<Record<number, { fields: readonly number[]; encoding: number }>> = {
  5: { fields: [1, 2, 3, 4], encoding: 2 },
  7: { fields: [1, 2], encoding: 2 },
  8: { fields: [1, 2, 3, 4, 5, 6], encoding: 4 },
};
/** Which of them a page of a type has. */
const layoutOf = new Map([
  [DATA, 5],
  [DICTIONARY, 7],
  [DATA_V2, 8],
]);

/**
 * PageHeader: 1 type, 2 size unpacked, 3 size; of a data page 5 { 1 values, 2 encoding, 3 and 4 those of levels }, of a dictionary
 * 7 { 1 values, 2 encoding }, of a data page of version 2 8 { 1 values, 2 nulls, 3 rows, 4 encoding, 5 and 6 bytes of levels }.
 * @throws RangeError where the bytes end, or no header is there
 */
function parseHeader(reader: CompactReader): PageHeader {
  const own = new Map<number, number>();
  const inner = new Map<number, Map<number, number>>();
  reader.struct((field, kind) => {
    if (field <= 3) own.set(field, reader.integer(kind));
    else if (layouts[field]) {
      const found = new Map<number, number>();
      inner.set(field, found);
      if (kind !== STRUCT) throw new TypeError('no struct is there');
      reader.struct((one, oneKind) => {
        if (layouts[field].fields.includes(one)) found.set(one, reader.integer(oneKind));
        else reader.skip(oneKind);
      });
    } else reader.skip(kind);
  });
  const [type, unpacked, size] = [1, 2, 3].map((field) => own.get(field) ?? -1);
  const at = layoutOf.get(type) ?? 0;
  const known = inner.get(at);
  const { fields, encoding } = layouts[at] ?? { fields: [], encoding: 0 };
  const isWhole = unpacked >= 0 && size >= 0 && fields.every((field) => (known?.get(field) ?? -1) >= 0);
  if (!isWhole) throw new TypeError('a number is missing');
  return {
    ...{ type, unpacked, size, length: reader.at },
    ...{ values: known?.get(1) ?? 0, encoding: known?.get(encoding) ?? -1 },
  };
}

/** Thrift's compact protocol, as far as headers of pages need it. @throws RangeError at the end of the bytes */
class CompactReader {
  at = 0;

  constructor(private readonly bytes: Uint8Array) {}

  /** Calls `field` with number and kind of every field, whose value it reads. */
  struct(field: (id: number, kind: number) => void): void {
    let id = 0;
    for (;;) {
      const head = this.#byte();
      const kind = head & 15;
      if (kind === 0) return;
      id = head >> 4 === 0 ? this.#zigzag() : id + (head >> 4);
      field(id, kind);
    }
  }

  /** A zigzag number, of the kind of 16 or 32 bits. @throws TypeError for another kind */
  integer(kind: number): number {
    if (kind !== 4 && kind !== INTEGER) throw new TypeError('no whole number is there');
    return this.#zigzag();
  }

  #zigzag(): number {
    const value = this.#varint();
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  }

  skip(kind: number): void {
    if (kind === 1 || kind === 2) return; // true and false are their kind
    if (kind === 3) this.at += 1;
    else if (kind >= 4 && kind <= 6) this.#varint();
    else if (kind === 7) this.at += 8;
    else if (kind === 8) this.#skipBytes();
    else if (kind === 9 || kind === 10) this.#skipList();
    else if (kind === 12) this.struct((_, inner) => this.skip(inner));
    else throw new TypeError(`no value is of kind ${kind}`);
    if (this.at > this.bytes.length) throw new RangeError('the bytes end');
  }

  #skipBytes(): void {
    const length = this.#varint();
    this.at += length; // not in one: the length moves the place, too
  }

  #skipList(): void {
    const head = this.#byte();
    const count = head >> 4 === 15 ? this.#varint() : head >> 4;
    const kind = head & 15;
    for (let i = 0; i < count; i++) this.skip(kind === 1 || kind === 2 ? 3 : kind);
  }

  #varint(): number {
    let [value, factor] = [0, 1];
    for (let i = 0; i < 10; i++) {
      const byte = this.#byte();
      value += (byte & 127) * factor;
      if (byte < 128) return value;
      factor *= 128;
    }
    throw new RangeError('a number is too long');
  }

  #byte(): number {
    if (this.at >= this.bytes.length) throw new RangeError('the bytes end');
    return this.bytes[this.at++];
  }
}

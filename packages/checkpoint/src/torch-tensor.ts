import {
  type ByteSource,
  checkRange,
  DetailFlowError,
  fileLimits,
  type StorageDType,
  storageBytes,
  type WeightLocation,
} from '@detailflow/core';
import type { ZipEntry } from './zip';
import { openMember, type ZipMember } from './zip-member';

/** A storage of a torch checkpoint: a flat run of elements that tensors are views of. */
export class TorchStorage {
  #member: ZipMember | undefined;
  /** Of a compressed member, which tensors then need not unpack again and again; may be let go of. */
  #unpacked: WeakRef<Uint8Array> | undefined;

  constructor(
    readonly source: ByteSource,
    /** The zip member that holds the bytes. */
    readonly entry: string,
    readonly dtype: StorageDType,
    /** Where the bytes begin in the source. */
    readonly offset: number,
    /** Number of elements. */
    readonly length: number,
    /** The zip member itself, in files that are zip files. */
    private readonly zipEntry?: ZipEntry,
  ) {}

  /** Whether the bytes lie in the file as they are. */
  get isStored(): boolean {
    return !this.zipEntry || !(this.zipEntry.isDeflated || this.zipEntry.fault);
  }

  /**
   * Bytes from `begin` on.
   * @throws DetailFlowError `format` for a damaged zip member (its checksum, once all of it is read), `limit` for one that
   *   unpacks to far more than the file has, `io`
   */
  async read(begin: number, length: number): Promise<Uint8Array> {
    const { source, offset, zipEntry } = this;
    if (!zipEntry) {
      checkRange(source.name, source.size, offset + begin, length);
      return source.read(offset + begin, length);
    }
    this.#member ??= openMember(source, zipEntry);
    if (this.isStored) return this.#member.read(begin, length);
    if (zipEntry.size > mostTensorBytes(source.size)) {
      throw new DetailFlowError(
        'limit',
        `unpacks to ${zipEntry.size} bytes, at most ${mostTensorBytes(source.size)} are read of a file of ${source.size}`,
        { file: source.name, entry: zipEntry.name },
      );
    }
    const bytes = this.#unpacked?.deref() ?? (await this.#member.readAll());
    this.#unpacked = new WeakRef(bytes);
    return bytes.slice(begin, begin + length);
  }
}

/** How a tensor looks at its storage, in elements. */
export interface TensorLayout {
  readonly shape: readonly number[];
  readonly strides: readonly number[];
  /** The element of the storage that the tensor's first element is. */
  readonly offset: number;
}

const {
  axes: maxDimensions,
  // Expanded views (stride 0), views of one storage and what is compressed may together be larger than the file.
  expandedBytes: maxExpandedBytes,
  expandedFiles: maxExpandedFiles,
} = fileLimits.torch;

/** The most bytes that tensors of a file may take when they are read. */
export const mostTensorBytes = (fileBytes: number): number =>
  Math.max(maxExpandedBytes, maxExpandedFiles * fileBytes);

/** A tensor of a torch checkpoint, checked against its storage but not read yet. */
export class TorchTensor {
  readonly dtype: StorageDType;
  readonly shape: readonly number[];
  /** Set when the elements lie in the file as they are read, and the file is a local one. */
  readonly location?: WeightLocation;
  /** Bytes that `read` gives. */
  readonly bytes: number;
  /** Bytes of the whole file. */
  readonly fileBytes: number;
  private readonly count: number;
  /** One past the last element of the storage that the tensor reaches. */
  private readonly end: number;
  private readonly contiguous: boolean;

  /** @throws DetailFlowError `format` when the layout leaves the storage, `limit` when it expands it too far */
  constructor(
    private readonly storage: TorchStorage,
    private readonly layout: TensorLayout,
  ) {
    this.dtype = storage.dtype;
    this.shape = layout.shape;
    const { count, end } = measure(storage, layout);
    this.count = count;
    this.bytes = count * storageBytes[this.dtype];
    this.fileBytes = storage.source.size;
    this.end = end;
    this.contiguous = isContiguous(layout);
    const { path } = storage.source;
    if (path !== undefined && storage.isStored && this.contiguous && count > 0) {
      const width = storageBytes[this.dtype];
      this.location = { path, offset: storage.offset + layout.offset * width, length: count * width };
    }
  }

  /** The elements in row-major order, little-endian, without gaps. */
  async read(): Promise<Uint8Array> {
    const { storage, layout, count } = this;
    if (count === 0) return new Uint8Array(0);
    const width = storageBytes[this.dtype];
    const bytes = await storage.read(layout.offset * width, (this.end - layout.offset) * width);
    return this.contiguous ? bytes : gather(bytes, layout, count, width);
  }
}

function measure(storage: TorchStorage, layout: TensorLayout): { count: number; end: number } {
  const { shape, strides, offset } = layout;
  const fail = (reason: string) =>
    new DetailFlowError('format', `a tensor ${reason}`, { file: storage.source.name, entry: storage.entry });
  const valid = (value: number) => Number.isSafeInteger(value) && value >= 0;
  if (shape.length !== strides.length || shape.length > maxDimensions) {
    throw fail(
      `has ${shape.length} extents and ${strides.length} strides (at most ${maxDimensions}, as many of each)`,
    );
  }
  if (![...shape, ...strides, offset].every(valid)) {
    throw fail(
      `has an offset, extent or stride that is no non-negative integer: ${offset}, [${shape}], [${strides}]`.slice(
        0,
        500,
      ),
    );
  }
  let count = 1;
  for (const extent of shape) {
    count *= extent;
    if (!Number.isSafeInteger(count)) throw fail(`is too large: [${shape.join(', ')}]`);
  }
  if (count === 0) return { count, end: offset };
  let last = offset;
  for (const [i, extent] of shape.entries()) {
    last += (extent - 1) * strides[i];
    if (!Number.isSafeInteger(last)) throw fail('reaches beyond 2^53 elements');
  }
  if (last >= storage.length) {
    throw fail(`[${shape.join(', ')}] reaches element ${last} of a storage of ${storage.length}`);
  }
  const bytes = count * storageBytes[storage.dtype];
  const most = mostTensorBytes(storage.source.size);
  if (count > storage.length && bytes > most) {
    throw new DetailFlowError(
      'limit',
      `an expanded tensor [${shape.join(', ')}] would take ${bytes} bytes, at most ${most} are read; ` +
        'save it without expanding it',
      { file: storage.source.name, entry: storage.entry },
    );
  }
  return { count, end: last + 1 };
}

function isContiguous({ shape, strides }: TensorLayout): boolean {
  let expected = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    if (shape[i] !== 1 && strides[i] !== expected) return false;
    expected *= shape[i];
  }
  return true;
}

/** Copies a view element by element into row-major order. `bytes` begins at the view's first element. */
function gather(
  bytes: Uint8Array,
  { shape, strides }: TensorLayout,
  count: number,
  width: number,
): Uint8Array {
  const aligned = bytes.byteOffset % width === 0 ? bytes : bytes.slice();
  const result = new Uint8Array(count * width);
  const words = (array: Uint8Array): Uint8Array | Uint16Array | Uint32Array | BigUint64Array => {
    const Words = { 1: Uint8Array, 2: Uint16Array, 4: Uint32Array, 8: BigUint64Array }[width] ?? Uint8Array;
    return new Words(array.buffer as ArrayBuffer, array.byteOffset, array.byteLength / width);
  };
  const from = words(aligned);
  const to = words(result);
  const index = new Array<number>(shape.length).fill(0);
  const inner = shape.length - 1;
  let source = 0;
  for (let target = 0; target < count; ) {
    for (let i = 0; i < shape[inner]; i++) to[target++] = from[source + i * strides[inner]];
    for (let axis = inner - 1; axis >= 0; axis--) {
      source += strides[axis];
      if (++index[axis] < shape[axis]) break;
      source -= shape[axis] * strides[axis];
      index[axis] = 0;
    }
  }
  return result;
}

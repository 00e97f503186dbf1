/** What lies in a buffer; bools are integers 0 and 1, and halves lie in pairs, the first of them in the lower bits. */
export type ElementType = 'float32' | 'int32' | 'float16';

/** Bytes of the buffer of so many elements. It is never empty: an array of nothing has room that nobody reads. */
export const bytesOf = (size: number, type: ElementType): number =>
  4 * Math.max(1, type === 'float16' ? Math.ceil(size / 2) : size);

/** The data types of .npy files that are read: the code that NumPy gives each, its bytes, and what holds the values. */
export const dtypes = {
  bool: { code: 'b1', bytes: 1, array: Uint8Array },
  uint8: { code: 'u1', bytes: 1, array: Uint8Array },
  int8: { code: 'i1', bytes: 1, array: Int8Array },
  uint16: { code: 'u2', bytes: 2, array: Uint16Array },
  int16: { code: 'i2', bytes: 2, array: Int16Array },
  uint32: { code: 'u4', bytes: 4, array: Uint32Array },
  int32: { code: 'i4', bytes: 4, array: Int32Array },
  uint64: { code: 'u8', bytes: 8, array: BigUint64Array },
  int64: { code: 'i8', bytes: 8, array: BigInt64Array },
  float16: { code: 'f2', bytes: 2, array: Float32Array },
  float32: { code: 'f4', bytes: 4, array: Float32Array },
  float64: { code: 'f8', bytes: 8, array: Float64Array },
} as const;

/** The data types of .npy files that are read. */
export type NpyDType = keyof typeof dtypes;

export const dtypeNames = Object.keys(dtypes) as NpyDType[];

/** Other codes of NumPy, as on 64-bit systems but Windows. */
const aliases: Readonly<Record<string, NpyDType>> = {
  ...{ '?': 'bool', b: 'int8', B: 'uint8', h: 'int16', H: 'uint16', i: 'int32', I: 'uint32' },
  ...{ l: 'int64', L: 'uint64', q: 'int64', Q: 'uint64', e: 'float16', f: 'float32', d: 'float64' },
};

/** What NumPy writes as `descr` of a data type, or takes for it: `<f4`, `>i8`, `|u1`, `f4`, `float32`. */
export function parseDescr(descr: string): { dtype: NpyDType; isBigEndian: boolean } | undefined {
  const named = dtypeNames.find((name) => name === descr);
  if (named) return { dtype: named, isBigEndian: false };
  const order = /^[<>=|]/.exec(descr)?.[0] ?? '';
  const code = descr.slice(order.length);
  const dtype =
    dtypeNames.find((name) => dtypes[name].code === code) ??
    (Object.hasOwn(aliases, code) ? aliases[code] : undefined);
  return dtype && { dtype, isBigEndian: order === '>' };
}

/** The code with its byte order, as NumPy writes it. */
export function formatDescr(dtype: NpyDType): string {
  const { code, bytes } = dtypes[dtype];
  return `${bytes === 1 ? '|' : '<'}${code}`;
}

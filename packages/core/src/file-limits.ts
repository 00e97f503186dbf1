/**
 * The most that files may ask of a reader, in one table: every reader refuses what goes beyond it before anything is
 * allocated, and every writer refuses to make it, so that what is written can be read.
 */
export const fileLimits = {
  safetensors: {
    /** The longest header that the format allows. */
    headerBytes: 100_000_000,
    /** Tensors, or entries of the metadata. */
    keys: 100_000,
    /** Characters of a tensor's name, or of a key of the metadata. */
    nameLength: 1000,
    axes: 64,
  },
  /** The index of a checkpoint in several files. */
  shards: { indexBytes: 32 * 2 ** 20, files: 1000 },
  npy: { headerBytes: 65_536, axes: 32 },
  /** Bytes of an array of a .npz file, or of a member of any zip file, that are held at once. */
  arrayBytes: 2 ** 31 - 1,
  zip: {
    members: 100_000,
    directoryBytes: 64 * 2 ** 20,
    nameBytes: 65_535,
    /** Deflate makes at most so many bytes of one. */
    inflation: 1032,
  },
  torch: {
    pickleBytes: 64 * 2 ** 20,
    axes: 64,
    /** Tensors may together be larger than the file, up to the larger of so many bytes and so many files. */
    expandedBytes: 64 * 2 ** 20,
    expandedFiles: 16,
  },
  config: {
    jsonBytes: 1_000_000,
    /** YAML takes some 10 microseconds a byte when it is hostile; official files have 2 kB. */
    yamlBytes: 100_000,
    depth: 32,
    values: 100_000,
    aliases: 100,
  },
  card: { textLength: 10_000, classes: 100_000 },
} as const;

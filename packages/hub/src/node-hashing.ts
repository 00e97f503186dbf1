import { createHash } from 'node:crypto';
import type { MakeHasher } from './hashing';

/** Hashes of Node, several times as fast as those in JavaScript. */
export const nodeHasher: MakeHasher = (kind) => {
  const hash = createHash(kind);
  return { update: (bytes) => hash.update(bytes), hex: () => hash.digest('hex') };
};

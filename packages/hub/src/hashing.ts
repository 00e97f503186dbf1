import { sha1 } from '@noble/hashes/legacy.js';
import { sha256 } from '@noble/hashes/sha2.js';

/** A hash that is fed part by part. */
export interface Hasher {
  update(bytes: Uint8Array): unknown;
  /** Lower-case hex. */
  hex(): string;
}

/** Hash functions of a platform. */
export type MakeHasher = (kind: 'sha1' | 'sha256') => Hasher;

/** The hash that an etag is of: SHA-256 of the content, or git's SHA-1 of `blob LENGTH\0` and the content. */
export function hasherOf(etag: string, size: number, make: MakeHasher): Hasher {
  if (etag.length === 64) return make('sha256');
  const hasher = make('sha1');
  hasher.update(new TextEncoder().encode(`blob ${size}\0`));
  return hasher;
}

/** For pages, whose own digests want the whole file at once. */
export const pageHasher: MakeHasher = (kind) => {
  const hash = (kind === 'sha1' ? sha1 : sha256).create();
  return {
    update: (bytes) => hash.update(bytes),
    hex: () => Array.from(hash.digest(), (byte) => byte.toString(16).padStart(2, '0')).join(''),
  };
};

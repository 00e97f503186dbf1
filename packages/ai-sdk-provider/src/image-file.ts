import { type ImageModelV3File, InvalidArgumentError, UnsupportedFunctionalityError } from '@ai-sdk/provider';

/** Bytes of a picture that is given. */
const MOST_BYTES = 2 ** 26;

/**
 * The bytes of a picture that is given.
 * @throws UnsupportedFunctionalityError for an address, InvalidArgumentError for what is no base64, or too large
 */
export function bytesOf(file: ImageModelV3File): Uint8Array {
  if (file.type === 'url') {
    throw new UnsupportedFunctionalityError({
      functionality: 'pictures by address',
      message: 'pictures are not fetched from addresses: give their bytes',
    });
  }
  const { data } = file;
  const bytes = typeof data === 'string' ? decoded(data) : data;
  if (bytes instanceof Uint8Array && bytes.length > 0 && bytes.length <= MOST_BYTES) return bytes;
  throw new InvalidArgumentError({
    argument: 'files',
    message: `a picture must have 1 to ${MOST_BYTES} bytes, as a Uint8Array or in base64`,
  });
}

function decoded(text: string): Uint8Array | undefined {
  const isBase64 = text.length < 2 * MOST_BYTES && /^[A-Za-z0-9+/]*={0,2}$/.test(text);
  return isBase64 ? Uint8Array.from(Buffer.from(text, 'base64')) : undefined;
}

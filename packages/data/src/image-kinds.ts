/** Kinds of image files that are read. */
export type ImageKind = 'png' | 'jpeg' | 'webp' | 'gif' | 'tiff' | 'avif' | 'bmp' | 'netpbm';

/** Bytes at the beginning of a file that tell its kind. */
export const KIND_BYTES = 64;

/** What is read, for messages. */
export const readableKinds = 'PNG, JPEG, WebP, GIF, TIFF, AVIF, BMP or PNM (.ppm, .pgm, .pbm)';

const signatures: readonly (readonly [ImageKind, RegExp])[] = [
  ['png', /^\x89PNG\r\n\x1a\n/],
  ['jpeg', /^\xff\xd8\xff/],
  ['webp', /^RIFF[^]{4}WEBP/],
  ['gif', /^GIF8[79]a/],
  ['tiff', /^(?:II[*+]\0|MM\0[*+])/],
  ['avif', /^[^]{4}ftyp(?:avi[fs]|[^]{8}(?:[^]{4})*?avi[fs])/],
  ['bmp', /^BM[^]{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0/],
  ['netpbm', /^P[1-6](?:\s|#)/],
];

/** Images, and other things that lie among them, that are not read. */
const foreign: readonly (readonly [string, RegExp])[] = [
  ['HEIF', /^[^]{4}ftyp(?:hei[cfmsx]|hevc|mif1|msf1)/],
  ['JPEG XL', /^(?:\xff\x0a|\0\0\0\x0cJXL )/],
  ['JPEG 2000', /^(?:\0\0\0\x0cjP {2}|\xff\x4f\xff\x51)/],
  ['SVG', /^(?:\xef\xbb\xbf)?\s*<(?:\?xml|svg|!DOCTYPE svg)/i],
  ['Photoshop (PSD)', /^8BPS/],
  ['icon (ICO)', /^\0\0[\x01\x02]\0[\x01-\xff]\0/],
  ['OpenEXR', /^v\/1\x01/],
  ['Radiance HDR', /^#\?R(?:ADIANCE|GBE)/],
  ['FITS', /^SIMPLE {2}=/],
  ['PFM, a float map', /^P[fF]\s/],
  ['PAM', /^P7\n/],
  ['PCX', /^\n[\0-\x05]\x01[\x01\x02\x04\x08]/],
  ['WebM or Matroska, a video', /^\x1a\x45\xdf\xa3/],
  ['MP4, a video', /^[^]{4}ftyp/],
  ['PDF', /^%PDF-/],
  ['zip archive', /^PK\x03\x04/],
  ['gzip archive', /^\x1f\x8b/],
];

const text = (head: Uint8Array) => String.fromCharCode(...head.subarray(0, KIND_BYTES));

/** What the first bytes of a file say it is. */
export function imageKind(head: Uint8Array): ImageKind | undefined {
  const start = text(head);
  return signatures.find(([, pattern]) => pattern.test(start))?.[0];
}

/** The name of a format that is known and not read. */
export function foreignKind(head: Uint8Array): string | undefined {
  const start = text(head);
  return foreign.find(([, pattern]) => pattern.test(start))?.[0];
}

/** Whether a name promises an image that is read; other files are judged by their first bytes. */
export const hasImageName = (name: string) =>
  /\.(?:a?png|jpe?g|jpe|jfif|webp|gif|tiff?|avif|bmp|dib|p[bgpn]m)$/i.test(name);

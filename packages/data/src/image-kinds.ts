/** Kinds of image files that are read. */
export type ImageKind = 'png' | 'jpeg' | 'webp' | 'gif' | 'tiff' | 'avif' | 'bmp' | 'netpbm';

/** Bytes at the beginning of a file that tell its kind. */
export const KIND_BYTES = 64;

/** What is read, for messages. */
export const readableKinds = 'PNG, JPEG, WebP, GIF, TIFF, AVIF, BMP or PNM (.ppm, .pgm, .pbm)';

/** First bytes in hexadecimal. */
const signatures: readonly (readonly [ImageKind, RegExp])[] = [
  ['png', /^89504e470d0a1a0a/],
  ['jpeg', /^ffd8ff/],
  ['webp', /^52494646.{8}57454250/],
  ['gif', /^474946383[79]61/],
  ['tiff', /^(?:4949(?:2a|2b)00|4d4d00(?:2a|2b))/],
  ['avif', /^.{8}66747970(?:.{8}){0,11}61766(?:966|973)/],
  ['bmp', /^424d.{24}(?:0c|28|34|38|40|6c|7c)000000/],
  ['netpbm', /^503[1-6](?:09|0a|0d|20|23)/],
];

/** Images, and other things that lie among them, that are not read. */
const foreign: readonly (readonly [string, RegExp])[] = [
  ['HEIF', /^.{8}66747970(?:686569|68657663|6d696631|6d736631)/],
  ['JPEG XL', /^(?:ff0a|0000000c4a584c20)/],
  ['JPEG 2000', /^(?:0000000c6a502020|ff4fff51)/],
  ['SVG', /^(?:efbbbf)?(?:09|0a|0d|20)*3c(?:3f786d6c|737667|21444f43545950452073)/],
  ['HTML', /^(?:efbbbf)?(?:09|0a|0d|20)*3c(?:21444f4354595045|68746d6c)/i],
  ['Photoshop (PSD)', /^38425053/],
  ['an icon (ICO)', /^0000(?:01|02)00(?!00)..00/],
  ['OpenEXR', /^762f3101/],
  ['Radiance HDR', /^233f52(?:41444941|474245)/],
  ['FITS', /^53494d504c4520203d/],
  ['PFM, a float map', /^50[46]6(?:09|0a|0d|20)/],
  ['PAM', /^50370a/],
  ['PCX', /^0a0[0-5]010[1248]/],
  ['WebM or Matroska, a video', /^1a45dfa3/],
  ['MP4, a video', /^.{8}66747970/],
  ['PDF', /^255044462d/],
  ['a zip archive', /^504b0304/],
  ['a gzip archive', /^1f8b/],
];

const hexOf = (head: Uint8Array) => Buffer.from(head.subarray(0, KIND_BYTES)).toString('hex');

/** What the first bytes of a file say it is. */
export function imageKind(head: Uint8Array): ImageKind | undefined {
  const start = hexOf(head);
  return signatures.find(([, pattern]) => pattern.test(start))?.[0];
}

/** The name of a format that is known and not read. */
export function foreignKind(head: Uint8Array): string | undefined {
  const start = hexOf(head);
  return foreign.find(([, pattern]) => pattern.test(start))?.[0];
}

/** Whether a name promises an image that is read; other files are judged by their first bytes. */
export const hasImageName = (name: string) =>
  /\.(?:a?png|jpe?g|jpe|jfif|webp|gif|tiff?|avif|bmp|dib|p[bgpn]m)$/i.test(name);

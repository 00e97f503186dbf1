/** More zero bytes than an encoder leaves where it fills up. */
const MOST_ZEROS = 64;

/**
 * Whether the end of a JPEG file is zeros instead of picture: room that was set aside and never written, as a download or a crash leaves it.
 * The decoder does not notice, since zeros are codes, too: the rest of the picture comes out plain. Source: ITU-T T.81, annex B.
 */
export function hasZeroedEnd(bytes: Uint8Array): boolean {
  return (
    bytes.length > MOST_ZEROS && bytes.subarray(-MOST_ZEROS).every((byte) => byte === 0) && !hasEnd(bytes)
  );
}

/** Whether the marker that ends the picture is there; behind it anything may follow. */
function hasEnd(bytes: Uint8Array): boolean {
  for (let at = 2; ; ) {
    at = bytes.indexOf(0xff, at);
    if (at < 0 || at + 1 >= bytes.length) return false;
    const marker = bytes[at + 1];
    if (marker === 0xd9) return true;
    if (marker === 0xff)
      at++; // a fill byte
    // Within a scan: a byte 255 of the picture, or where decoding can begin anew.
    else if (marker <= 0x01 || (marker >= 0xd0 && marker <= 0xd8)) at += 2;
    else at += 2 + bytes[at + 2] * 256 + bytes[at + 3];
  }
}

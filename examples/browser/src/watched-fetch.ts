/**
 * A `fetch` that tells which share of some files has come, from 0 to 1, once for every hundredth. Servers that do not say how
 * large a file is are not told of.
 */
export async function watchedFetch(
  addresses: readonly string[],
  onShare: (share: number, total: number) => void,
): Promise<typeof fetch> {
  const total = (await Promise.all(addresses.map(sizeOf))).reduce((sum, size) => sum + size, 0);
  let [done, told] = [0, -1];
  const tell = (bytes: number) => {
    done += bytes;
    const share = Math.min(1, done / total);
    if (total === 0 || Math.floor(100 * share) === told) return;
    told = Math.floor(100 * share);
    onShare(share, total);
  };
  tell(0);
  return async (request, init) => {
    const response = await fetch(request, init);
    if (!response.ok || !response.body || !addresses.includes(String(request))) return response;
    const counted = new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>({
      transform(part, to) {
        tell(part.length);
        to.enqueue(part);
      },
    });
    return new Response(response.body.pipeThrough(counted), response);
  };
}

async function sizeOf(address: string): Promise<number> {
  const size = await fetch(address, { method: 'HEAD' }).then(
    ({ ok, headers }) => (ok ? Number(headers.get('content-length') ?? 0) : 0),
    () => 0, // whoever reads the file says why
  );
  return Number.isSafeInteger(size) ? size : 0;
}

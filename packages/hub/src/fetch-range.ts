import { DetailFlowError } from '@detailflow/core';
import type { HubFile } from './hub-api';
import type { HubSettings } from './hub-options';
import { refusal, request } from './request';
import { askedWait, mayPass, Passing, retrying } from './retry';
import { Watch } from './watched-body';

/**
 * The bytes [from, to) of a file on the hub. They cannot be checked against the hash of the whole; what can is: that the
 * answer is this part of a file of this size, and that the hub still means the file of this hash.
 * @throws DetailFlowError `corrupt` when the hub announces another file; `network` after retries
 */
export function fetchRange(
  { url, name, file, settings }: { url: string; name: string; file: HubFile; settings: HubSettings },
  from: number,
  to: number,
): Promise<Uint8Array> {
  return retrying(settings, async () => {
    const watch = new Watch(settings, name);
    try {
      const headers = { Range: `bytes=${from}-${to - 1}` };
      const answer = await request(settings, url, { headers, signal: watch.signal });
      const { response, header } = answer;
      const { status } = response;
      const range = response.headers.get('content-range') ?? 'none';
      if (status !== 206 || range !== `bytes ${from}-${to - 1}/${file.size}`) {
        await response.body?.cancel();
        if (status < 300)
          throw new DetailFlowError(
            'network',
            `the server sends another part than was asked for (status ${status}, range ${range.slice(0, 80)})`,
            { file: name },
          );
        const error = refusal(answer, name, settings);
        const isForeign = new URL(answer.url).origin !== new URL(url).origin;
        throw mayPass(status) || (isForeign && status === 403)
          ? new Passing(error, askedWait(header))
          : error;
      }
      const etag = header('x-linked-etag')?.replace(/"/g, '');
      if (etag !== undefined && etag !== file.etag) {
        await response.body?.cancel();
        throw new DetailFlowError('corrupt', `the hub announces ${etag} in place of ${file.etag}`, {
          file: name,
        });
      }
      const bytes = new Uint8Array(to - from);
      let done = 0;
      for await (const part of watch.parts(response)) {
        if (done + part.length > bytes.length)
          throw new DetailFlowError('corrupt', 'more bytes arrive than were announced', { file: name });
        bytes.set(part, done);
        done += part.length;
      }
      if (done === bytes.length) return bytes;
      throw new DetailFlowError('network', `the transfer ended after ${done} of ${bytes.length} bytes`, {
        file: name,
      });
    } catch (cause) {
      throw watch.fault(cause);
    } finally {
      watch.end();
    }
  });
}

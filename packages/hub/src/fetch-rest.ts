import { DetailFlowError } from '@detailflow/core';
import type { HubSettings } from './hub-options';
import { type Answer, refusal, request } from './request';
import { askedWait, mayPass, Passing } from './retry';
import { Watch } from './watched-body';

/** A file to fetch. */
export interface Wanted {
  /** For messages. */
  readonly name: string;
  readonly url: string;
  readonly size: number;
  /** SHA-256 of the content, or git's SHA-1 of it as a blob; undefined when only the length can be checked. */
  readonly etag?: string;
  /** Sent when a transfer goes on where another broke off, so that the parts are of one file. */
  readonly ifRange?: string;
}

/** Where the bytes of a file go, one after the other. */
export interface Sink {
  /** How many there are. */
  readonly done: number;
  append(part: Uint8Array<ArrayBuffer>): Promise<void>;
  /** Forgets them. */
  restart(): Promise<void>;
}

/** After so many bytes earlier faults of the network are forgotten. */
const FORGIVING = 8 * 2 ** 20;

/**
 * Fetches what a sink lacks of a file, in one request.
 * @throws Passing for what another request may mend; DetailFlowError `corrupt` for more bytes than announced
 */
export async function fetchRest(
  file: Sink,
  {
    wanted,
    settings,
    onBytes,
    gotFurther,
  }: {
    readonly wanted: Wanted;
    readonly settings: HubSettings;
    readonly onBytes: (done: number) => void;
    readonly gotFurther: () => void;
  },
): Promise<void> {
  if (file.done === wanted.size) return;
  const watch = new Watch(settings, wanted.name);
  try {
    const { etag, ifRange } = wanted;
    // Nothing would tell that what comes now is of another version.
    if (file.done > 0 && etag === undefined && ifRange === undefined) await file.restart();
    const condition = ifRange === undefined ? undefined : { 'If-Range': ifRange };
    const headers = file.done > 0 ? { Range: `bytes=${file.done}-`, ...condition } : undefined;
    const answer = await request(settings, wanted.url, { headers, signal: watch.signal });
    await begin(file, answer, { wanted, settings });
    for (let news = 0; ; ) {
      for await (const part of watch.parts(answer.response)) {
        if (file.done + part.length > wanted.size) {
          throw new DetailFlowError(
            'corrupt',
            `more than the ${wanted.size} bytes arrive that were announced; what came was removed`,
            { file: wanted.name },
          );
        }
        await file.append(part);
        onBytes(file.done);
        news += part.length;
        if (news < FORGIVING) continue;
        news = 0;
        gotFurther();
      }
      break;
    }
    if (file.done < wanted.size) {
      const message = `the transfer ended after ${file.done} of ${wanted.size} bytes`;
      throw new Passing(new DetailFlowError('network', message, { file: wanted.name }));
    }
  } catch (cause) {
    throw watch.fault(cause);
  } finally {
    watch.end();
  }
}

/** Checks that an answer is the part that was asked for; where it is the whole file, the partial one begins anew. */
async function begin(
  file: Sink,
  answer: Answer,
  { wanted, settings }: { readonly wanted: Wanted; readonly settings: HubSettings },
): Promise<void> {
  const { response, header } = answer;
  const again = async (message: string, wait?: number) => {
    await response.body?.cancel();
    return new Passing(new DetailFlowError('network', message, { file: wanted.name }), wait);
  };
  const { status } = response;
  if (status === 416) {
    await file.restart();
    throw await again('the server has no such range');
  }
  if (status >= 300) {
    await response.body?.cancel();
    const error = refusal(answer, wanted.name, settings);
    // A signed address that ran out is refused by the host of the content; the hub hands out another one.
    const isForeign = new URL(answer.url).origin !== new URL(wanted.url).origin;
    throw mayPass(status) || (isForeign && status === 403) ? new Passing(error, askedWait(header)) : error;
  }
  const encoding = response.headers.get('content-encoding');
  if (encoding !== null && encoding !== 'identity') throw await again(`the server sends it as ${encoding}`);
  if (status === 200) {
    if (file.done > 0) await file.restart();
    const length = response.headers.get('content-length');
    if (length !== null && Number(length) !== wanted.size) {
      await response.body?.cancel();
      throw new DetailFlowError(
        'corrupt',
        `${length} bytes are sent, not the ${wanted.size} that were announced; nothing was kept`,
        { file: wanted.name },
      );
    }
    return;
  }
  const range = response.headers.get('content-range') ?? 'none';
  const isAsked = file.done > 0 && range === `bytes ${file.done}-${wanted.size - 1}/${wanted.size}`;
  // Some servers do not look at If-Range; where no hash is compared in the end, the version is.
  const isSame = wanted.etag !== undefined || response.headers.get('etag') === wanted.ifRange;
  if (status === 206 && isAsked && isSame) return;
  await file.restart();
  if (isAsked && !isSame) throw await again('the server sends a part of another version');
  throw await again(
    `the server sends another part than was asked for (status ${status}, range ${range.slice(0, 80)})`,
  );
}

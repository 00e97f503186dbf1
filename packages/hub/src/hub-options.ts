import type { OptionNames } from '@detailflow/core';
/** How far a transfer is. */
export interface HubProgress {
  /** Path of the file inside the repository, or its address. */
  readonly file: string;
  /** Bytes of this file that are there and checked so far. */
  readonly done: number;
  readonly total: number;
  /** The same over all files asked for so far. */
  readonly allDone: number;
  readonly allTotal: number;
}

/** What every request needs. */
export interface HubSettings {
  /** Where the hub is; default `https://huggingface.co`. */
  readonly endpoint: string;
  /** Sent to the hub, and to no other host. */
  readonly token?: string;
  /** Milliseconds in which a question (not a file) must be answered; default 10 000. */
  readonly metadataTimeout: number;
  /** Milliseconds in which at least 1 KiB of a file must arrive, or its end; default 10 000. */
  readonly stallTimeout: number;
  /** How often a request is made anew after a fault of the network or the server; default 5. */
  readonly retries: number;
  /** Milliseconds before the first repetition, doubled each time up to 8 s; default 500. */
  readonly retryDelay: number;
  /** Longest time that a server may ask to wait (status 429), in milliseconds; default 5 minutes. */
  readonly longestWait: number;
  readonly signal?: AbortSignal;
  /** Told what a person should know: waiting, another beginning, the cache in place of the hub. */
  readonly onNotice?: (message: string) => void;
  /** `follow` in pages, where a redirect cannot be looked at; then the browser takes care that no other host gets the token. */
  readonly redirect: 'manual' | 'follow';
  /** Default: the global `fetch`. */
  readonly fetch: typeof fetch;
}

/** Every setting, for those who refuse others. */
export const hubSettingNames: OptionNames<HubSettings> = {
  ...{
    endpoint: true,
    token: true,
    metadataTimeout: true,
    stallTimeout: true,
    retries: true,
    retryDelay: true,
  },
  ...{ longestWait: true, signal: true, onNotice: true, redirect: true, fetch: true },
};

/** The settings with their defaults. */
export function hubSettings(options: Partial<HubSettings> = {}): HubSettings {
  const { endpoint = 'https://huggingface.co' } = options;
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  return {
    metadataTimeout: 10_000,
    stallTimeout: 10_000,
    retries: 5,
    retryDelay: 500,
    longestWait: 300_000,
    redirect: 'manual',
    fetch: (...given) => fetch(...given),
    ...given,
    endpoint: endpoint.replace(/\/+$/, ''),
  };
}

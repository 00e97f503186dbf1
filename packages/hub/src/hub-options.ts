import { DetailFlowError, describe, type OptionNames } from '@detailflow/core';

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

/** What a value must be: a text that says it, and whether it is. */
export type Kind = readonly [wanted: string, isRight: (value: unknown) => boolean];

/** Milliseconds: a timer takes what is longer than 24.8 days for nothing. */
const LONGEST = 86_400_000;
const milliseconds = (least: number): Kind => [
  `whole milliseconds, ${least} to ${LONGEST}`,
  (value) => Number.isInteger(value) && (value as number) >= least && (value as number) <= LONGEST,
];

export const kinds = {
  text: ['a text', (value) => typeof value === 'string' && value !== ''],
  texts: [
    'a list of texts',
    (value) => Array.isArray(value) && value.every((one) => typeof one === 'string'),
  ],
  boolean: ['true or false', (value) => typeof value === 'boolean'],
  function: ['a function', (value) => typeof value === 'function'],
} as const satisfies Record<string, Kind>;

const settingKinds: Readonly<Record<keyof HubSettings, Kind>> = {
  endpoint: ['an http(s) address', (value) => typeof value === 'string' && URL.canParse(value)],
  token: kinds.text,
  metadataTimeout: milliseconds(1),
  stallTimeout: milliseconds(1),
  retries: [
    'how often, from 0',
    (value) => typeof value === 'number' && value >= 0 && Math.floor(value) === value,
  ],
  retryDelay: milliseconds(0),
  longestWait: milliseconds(0),
  signal: ['an AbortSignal', (value) => typeof (value as AbortSignal | null)?.throwIfAborted === 'function'],
  onNotice: kinds.function,
  redirect: ['manual or follow', (value) => value === 'manual' || value === 'follow'],
  fetch: kinds.function,
};

/** Checks values that are given. @throws DetailFlowError `invalid-argument` naming the first that is of another kind */
export function checkKinds<T extends object>(values: T, wanted: Readonly<Record<keyof T, Kind>>): void {
  for (const [name, value] of Object.entries(values)) {
    const [text, isRight] = wanted[name as keyof T];
    if (value === undefined || isRight(value)) continue;
    const what = name === 'token' ? 'another thing' : describe(value); // it is never shown
    throw new DetailFlowError('invalid-argument', `${name} is ${what}; give ${text}`);
  }
}

/** Checks settings that are given, among other options. @throws DetailFlowError `invalid-argument` */
export function checkSettings(options: Partial<HubSettings>): void {
  const given = Object.entries(options).filter(([name]) => Object.hasOwn(settingKinds, name));
  checkKinds(Object.fromEntries(given), settingKinds);
}

/** The settings with their defaults. @throws DetailFlowError `invalid-argument` */
export function hubSettings(options: Partial<HubSettings> = {}): HubSettings {
  checkSettings(options);
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

import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import path from 'node:path';
import { ioError } from '@detailflow/checkpoint/node';
import { checkOptions, DetailFlowError } from '@detailflow/core';
import {
  checkKinds,
  checkSettings,
  type HubSettings,
  hubSettingNames,
  hubSettings,
  kinds,
} from './hub-options';

/** Settings on a machine with a disk. */
export interface NodeHubSettings extends HubSettings {
  /** Folder of the cache, which Python's huggingface_hub shares. */
  readonly cache: string;
  /** Folder of files from other web servers. */
  readonly urlCache: string;
  /** Only what is in the cache is used. */
  readonly offline: boolean;
}

/**
 * The settings that the environment gives, as Python's huggingface_hub reads them: HF_HOME, HF_HUB_CACHE, HF_ENDPOINT,
 * HF_TOKEN, HF_TOKEN_PATH, HF_HUB_DISABLE_IMPLICIT_TOKEN, HF_HUB_OFFLINE, HF_HUB_ETAG_TIMEOUT and
 * HF_HUB_DOWNLOAD_TIMEOUT (both in seconds). What `options` has goes first.
 * @throws DetailFlowError `invalid-argument` for a value that cannot be used
 */
export async function nodeHubSettings(
  options: Partial<NodeHubSettings> = {},
  env: Readonly<Record<string, string | undefined>> = process.env,
): Promise<NodeHubSettings> {
  checkOptions('nodeHubSettings', options, {
    ...hubSettingNames,
    cache: true,
    urlCache: true,
    offline: true,
  });
  const { cache: givenCache, urlCache, offline } = options;
  checkKinds(
    { cache: givenCache, urlCache, offline },
    { cache: kinds.text, urlCache: kinds.text, offline: kinds.boolean },
  );
  checkSettings(options);
  const cacheRoot = env.XDG_CACHE_HOME || path.join(homedir(), '.cache');
  const home = expand(env.HF_HOME || path.join(cacheRoot, 'huggingface'), env);
  const cache = expand(env.HF_HUB_CACHE || env.HUGGINGFACE_HUB_CACHE || path.join(home, 'hub'), env);
  const endpoint = options.endpoint ?? (env.HF_ENDPOINT || undefined);
  const url = endpoint === undefined || URL.canParse(endpoint) ? endpoint && new URL(endpoint) : undefined;
  if (
    endpoint !== undefined &&
    (!url || !/^https?:$/.test(url.protocol) || url.username !== '' || url.password !== '')
  ) {
    throw new DetailFlowError('invalid-argument', 'is no http(s) address', { entry: 'HF_ENDPOINT' });
  }
  const settings = {
    metadataTimeout: seconds(env, 'HF_HUB_ETAG_TIMEOUT'),
    stallTimeout: seconds(env, 'HF_HUB_DOWNLOAD_TIMEOUT'),
    ...options,
    endpoint,
  };
  return {
    ...hubSettings(settings),
    token: checkedToken(options.token ?? (await tokenOf(env, home))),
    cache: path.resolve(options.cache ?? cache),
    urlCache: path.resolve(options.urlCache ?? path.join(home, 'detailflow')),
    offline: options.offline ?? isTrue(env.HF_HUB_OFFLINE || env.TRANSFORMERS_OFFLINE),
  };
}

const isTrue = (text = ''): boolean => /^(1|on|yes|true)$/i.test(text);

/** `~` and `$NAME`, as Python expands them. */
function expand(text: string, env: Readonly<Record<string, string | undefined>>): string {
  const known = text.replace(/\$(?:(\w+)|\{(\w+)\})/g, (all, a, b) => env[a ?? b] ?? all);
  return known.replace(/^~(?=$|[\\/])/, () => homedir());
}

function seconds(env: Readonly<Record<string, string | undefined>>, name: string): number | undefined {
  const text = env[name]?.trim();
  if (!text) return undefined;
  const value = Number(text);
  if (value > 0 && value <= 86_400) return Math.max(1, Math.round(value * 1000)); // timers count whole milliseconds
  throw new DetailFlowError(
    'invalid-argument',
    `${JSON.stringify(text.slice(0, 40))} is no time; give seconds, from above 0 to 86400`,
    { entry: name },
  );
}

async function tokenOf(
  env: Readonly<Record<string, string | undefined>>,
  home: string,
): Promise<string | undefined> {
  if (isTrue(env.HF_HUB_DISABLE_IMPLICIT_TOKEN)) return undefined;
  const given = (env.HF_TOKEN || env.HUGGING_FACE_HUB_TOKEN)?.trim();
  if (given) return given;
  const file = expand(env.HF_TOKEN_PATH || path.join(home, 'token'), env);
  const text = await readFile(file, 'utf8').catch((cause) => {
    if (cause.code === 'ENOENT' || cause.code === 'ENOTDIR') return '';
    throw ioError('the token cannot be read', file, cause);
  });
  return text.trim() || undefined;
}

/** A token that a header can carry; it is never shown. */
function checkedToken(token: string | undefined): string | undefined {
  if (token === undefined || /^[\x21-\x7e]{1,1000}$/.test(token)) return token;
  throw new DetailFlowError('invalid-argument', 'the token has characters that none has', {
    entry: 'HF_TOKEN',
  });
}

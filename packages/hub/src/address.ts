import { unsafePath } from '@detailflow/checkpoint';
import { DetailFlowError, describe } from '@detailflow/core';

/** What `hf:[datasets/]org/name[@revision][/path]` names. */
export interface HubAddress {
  readonly type: 'model' | 'dataset';
  /** `org/name`. */
  readonly repository: string;
  /** A branch, a tag or a commit; `main` unless said. */
  readonly revision: string;
  /** A file or folder inside; '' is the root. */
  readonly path: string;
}

const NAME = /^[A-Za-z0-9](?:[\w.-]{0,94}[A-Za-z0-9_])?$/;
const COMMIT = /^[0-9a-f]{40}$/;

/** Whether a text is meant as an address on the hub. */
export const isHubAddress = (text: string): boolean => typeof text === 'string' && text.startsWith('hf:');

/**
 * Reads an address. A revision with a slash is written `refs/pr/1`, or with `%2F`.
 * @throws DetailFlowError `invalid-argument` for anything else, before a request is made of it
 */
export function parseHubAddress(text: string): HubAddress {
  const refuse = (reason: string): never => {
    throw new DetailFlowError(
      'invalid-argument',
      `${typeof text === 'string' ? JSON.stringify(text.slice(0, 200)) : describe(text)} is no address on the hub: ${reason}; write hf:org/name, hf:org/name@revision/path or hf:datasets/org/name`,
    );
  };
  if (!isHubAddress(text)) refuse('it does not begin with hf:');
  const body = text.slice(3).replace(/^\/\//, '');
  const isDataset = body.startsWith('datasets/');
  const [org, last = '', ...inside] = body.replace(/^(datasets|models)\//, '').split('/');
  const [name, ...rest] = last.split('@');
  for (const part of [org, name]) {
    if (!NAME.test(part) || part.includes('--') || part.includes('..'))
      refuse(`${JSON.stringify(part)} is no name`);
  }
  if (rest.length > 1) refuse('there are two revisions');
  let revision = rest[0] ?? 'main';
  if (revision === 'refs' && inside.length >= 2) revision = ['refs', ...inside.splice(0, 2)].join('/');
  try {
    revision = decodeURIComponent(revision);
  } catch {
    refuse('the revision is not encoded properly');
  }
  if (unsafePath(revision) !== undefined || !/^[\w./+-]{1,200}$/.test(revision))
    refuse(`${JSON.stringify(revision)} is no revision`);
  const path = inside.join('/').replace(/\/$/, '');
  const reason = path === '' ? undefined : unsafePath(path);
  if (reason !== undefined) refuse(`the path inside: ${reason}`);
  return { type: isDataset ? 'dataset' : 'model', repository: `${org}/${name}`, revision, path };
}

/** An address that is given as text, or in its parts. @throws DetailFlowError `invalid-argument` for what the text could not say */
export function hubAddressOf(given: string | HubAddress): HubAddress {
  if (typeof given !== 'object' || given === null) return parseHubAddress(given);
  const parts = [given.type, given.repository, given.revision, given.path];
  const isWhole = parts.every((part) => typeof part === 'string');
  const parsed = isWhole ? parseHubAddress(hubAddressText(given)) : undefined;
  if (parsed && parsed.repository === given.repository && parsed.type === given.type) return parsed;
  throw new DetailFlowError(
    'invalid-argument',
    'the parts of an address on the hub are type ("model" or "dataset"), repository, revision and path, all of them texts',
  );
}

/** Whether a revision is a whole commit, which never means anything else later. */
export const isCommit = (revision: string): boolean => COMMIT.test(revision);

/** The address as text. */
export function hubAddressText({ type, repository, revision, path }: HubAddress): string {
  const at = revision === 'main' ? '' : `@${encodeURIComponent(revision)}`;
  return `hf:${type === 'dataset' ? 'datasets/' : ''}${repository}${at}${path === '' ? '' : `/${path}`}`;
}

import { readFile, stat } from 'node:fs/promises';
import { ioError } from '@detailflow/checkpoint/node';
import { checkOptions, DetailFlowError } from '@detailflow/core';
import { type HubAddress, hubAddressOf, hubAddressText, isCommit } from './address';
import { type NodeHubSettings, nodeHubSettings } from './environment';
import { HubApi } from './hub-api';
import { checkKinds, type HubProgress, hubSettingNames, kinds } from './hub-options';
import { type CommitFile, type HashedFile, HubWriter } from './hub-writer';
import { hashesOf, type LocalFile, localFiles, requireUnchanged } from './pushed-files';
import { Tally } from './tally';

/** How {@link push} works; what is left out comes from the environment. */
export interface PushOptions extends Partial<NodeHubSettings> {
  /** Make the repository, or the branch where the repository is there; otherwise they must be there. */
  readonly create?: boolean;
  /** A repository that is made is seen by its owner only. */
  readonly isPrivate?: boolean;
  /** What the commit says: a first line, and lines below it. */
  readonly message?: string;
  /** Only list what would be sent; no server is asked, and no token is needed. */
  readonly dryRun?: boolean;
  /** Told how far it is. */
  readonly onProgress?: (progress: HubProgress) => void;
}

/** What became of a file. */
export interface PushedFile {
  /** Inside the repository. */
  readonly path: string;
  readonly size: number;
  /**
   * `sent`; `unchanged` where the repository has it with this content; `ignored` where its .gitignore says so; `listed` when nothing is sent.
   */
  readonly state: 'sent' | 'unchanged' | 'ignored' | 'listed';
}

/** What a push did. */
export interface PushResult {
  /** The address of what was pushed to. */
  readonly address: string;
  readonly files: readonly PushedFile[];
  /** Files of the folder that are never sent: hidden ones, links to folders. */
  readonly leftOut: readonly string[];
  /** The commit, or that which the branch was at where nothing has changed; none when nothing is sent. */
  readonly commit?: string;
}

/** Bytes of files that lie in the commit itself; large ones are sent apart. */
const MOST_INSIDE = 128 * 2 ** 20;

/**
 * Puts the files of a folder into a repository of the hub, in one commit: large files are sent first, each checked by the hub against its
 * SHA-256, and the commit names them; so the branch has all or nothing. Files that the repository has besides stay.
 * @param address `hf:[datasets/]org/name[@branch][/folder]`
 * @throws DetailFlowError `unauthorised` without a token or the right to write; `not-found` for a repository or branch that is not there
 * and not to be made; `invalid-argument` for one that is there and to be made; `offline`, `network`, `rate-limited`, `io`, `limit`
 * @see https://detailflow.github.io/detailflow-ts/guide/hub.html
 */
export async function push(
  folder: string,
  address: string | HubAddress,
  options: PushOptions = {},
): Promise<PushResult> {
  checkOptions('push', options, {
    ...{ ...hubSettingNames, cache: true, urlCache: true, offline: true },
    ...{ create: true, isPrivate: true, message: true, dryRun: true, onProgress: true },
  });
  const { create = false, isPrivate = false, message, dryRun, onProgress, ...given } = options;
  checkKinds(
    { folder, message, create, isPrivate, dryRun, onProgress },
    {
      ...{ folder: kinds.text, message: kinds.text, onProgress: kinds.function },
      ...{ create: kinds.boolean, isPrivate: kinds.boolean, dryRun: kinds.boolean },
    },
  );
  const parsed = hubAddressOf(address);
  const named = hubAddressText(parsed);
  if (isCommit(parsed.revision)) {
    throw new DetailFlowError('invalid-argument', 'names a commit: give a branch to push to', {
      file: named,
    });
  }
  const { files, leftOut } = await filesOf(folder, parsed.path);
  if (dryRun) {
    const listed = files.map(({ path, size }) => ({ path, size, state: 'listed' as const }));
    return { address: named, files: listed, leftOut };
  }
  const settings = await nodeHubSettings(given);
  if (settings.offline)
    throw new DetailFlowError('offline', 'the network is not used (HF_HUB_OFFLINE)', { file: named });
  if (settings.token === undefined) {
    throw new DetailFlowError(
      'unauthorised',
      'pushing needs a token with the right to write: set HF_TOKEN, or HF_TOKEN_PATH to the file that has it',
      { file: named },
    );
  }
  const writer = new HubWriter(settings, parsed);
  const api = new HubApi(settings, parsed);
  const parent = await branch(writer, { create, isPrivate });
  const there = parent === undefined ? undefined : await api.files(parent);
  const changed: HashedFile[] = [];
  const hashes = new Map<string, { sha256: string; blob: string }>();
  for (const file of files) {
    const { sample, ...found } = await hashesOf(file, settings.signal);
    await requireUnchanged(file);
    hashes.set(file.path, found);
    const etag = there?.get(file.path)?.etag;
    if (etag === undefined || !Object.values(found).includes(etag))
      changed.push({ ...file, sha256: found.sha256, sample });
  }
  if (changed.length === 0) return { address: named, files: stated(files), leftOut, commit: parent };
  const rules = files.find(({ path }) => path === '.gitignore');
  const modes = await writer.modes(changed, { gitIgnore: rules && (await readFile(rules.local, 'utf8')) });
  const sent = changed.filter(({ path }) => modes.get(path) !== 'ignored');
  const ignored = new Set(changed.filter((file) => !sent.includes(file)).map(({ path }) => path));
  if (sent.length === 0)
    return { address: named, files: stated(files, { ignored }), leftOut, commit: parent };
  const isLarge = ({ path }: LocalFile) => modes.get(path) === 'lfs';
  const inside = sent.filter((file) => !isLarge(file)).reduce((sum, { size }) => sum + size, 0);
  if (inside > MOST_INSIDE) {
    throw new DetailFlowError(
      'limit',
      `${inside} bytes would lie in the commit itself, more than ${MOST_INSIDE}: name large files in its .gitattributes`,
      { file: named },
    );
  }
  const tally = new Tally(onProgress);
  for (const { path, size } of sent) tally.expect(path, size);
  const operations: CommitFile[] = [];
  for (const file of sent) {
    const { path, size, sha256, local } = file;
    if (isLarge(file)) {
      await writer.upload(file, (done) => tally.set(path, done));
      operations.push({ path, sha256, size });
      continue;
    }
    const content = await readFile(local).catch((cause) => {
      throw ioError('cannot be read', local, cause);
    });
    await requireUnchanged(file);
    operations.push({ path, content });
    tally.set(path, size);
  }
  const commit =
    (await writer.commit(operations, { message: message ?? `Push ${sent.length} files`, parent })) ??
    (await madeAlready());
  return { address: named, files: stated(files, { ignored, sent }), leftOut, commit };

  /** An answer that got lost may have been that of the commit. @throws DetailFlowError `network` */
  async function madeAlready(): Promise<string> {
    const now = await api.commit();
    const found = await api.files(now);
    const isThere = sent.every(({ path }) =>
      Object.values(hashes.get(path) ?? {}).includes(found.get(path)?.etag ?? ''),
    );
    if (isThere) return now;
    throw new DetailFlowError('network', 'the branch has changed meanwhile: push again', { file: named });
  }
}

async function filesOf(folder: string, prefix: string): ReturnType<typeof localFiles> {
  const found = await stat(folder).catch((cause) => {
    throw ioError('cannot be read', folder, cause);
  });
  if (!found.isDirectory()) throw new DetailFlowError('invalid-argument', 'is no folder', { file: folder });
  const listed = await localFiles(folder, prefix);
  if (listed.files.length > 0) return listed;
  throw new DetailFlowError('invalid-argument', 'has no files to push', { file: folder });
}

/** The commit that the branch is at, once repository and branch are there; undefined where it has none yet. */
async function branch(
  writer: HubWriter,
  { create, isPrivate }: { readonly create: boolean; readonly isPrivate: boolean },
): Promise<string | undefined> {
  const { revision } = writer.address;
  const found = await writer.head();
  if (typeof found === 'object') {
    if (create) throw writer.exists();
    return found.commit;
  }
  const what = found === 'no branch' ? `branch ${JSON.stringify(revision)}` : 'repository';
  if (!create) {
    throw new DetailFlowError(
      'not-found',
      `there is no such ${what}, or the token may not see it; create (--create) makes it`,
      { file: writer.name() },
    );
  }
  if (found === 'no repository') await writer.create(isPrivate);
  const isMain = revision === 'main';
  if (!isMain) await writer.createBranch();
  const made = await writer.head();
  if (typeof made === 'object') {
    if (!isPrivate || made.isPrivate) return made.commit;
    throw new DetailFlowError(
      'network',
      'everyone can see it, although it was to be private: nothing is sent',
      {
        file: writer.name(),
      },
    );
  }
  // An empty repository may have no branch before its first commit; that it is private cannot be seen then.
  if (made === 'no branch' && isMain && !isPrivate) return undefined;
  throw new DetailFlowError('network', `the hub does not show the ${what} that it made`, {
    file: writer.name(),
  });
}

function stated(
  files: readonly LocalFile[],
  { ignored = new Set(), sent = [] }: { ignored?: ReadonlySet<string>; sent?: readonly LocalFile[] } = {},
): PushedFile[] {
  const changed = new Set(sent.map(({ path }) => path));
  return files.map(({ path, size }) => {
    const state = ignored.has(path) ? 'ignored' : changed.has(path) ? 'sent' : 'unchanged';
    return { path, size, state };
  });
}

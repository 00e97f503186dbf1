import { mkdir, readdir, readFile, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { ioError, openFile, writeFileAtomically } from '@detailflow/checkpoint/node';
import { DetailFlowError, describe } from '@detailflow/core';
import { canonicalJson } from './job-spec';
import { rangeName, type ShardRange } from './shard-range';
import { decodeResult, encodeResult } from './shard-result';
import type { ShardResults } from './shard-results';

/**
 * Results as files in a folder that all machines share: a folder a job, named by its digest, with `job.json` and a .npz file a
 * shard. Files stay when they are merged: the same job takes them again.
 * @throws DetailFlowError `invalid-argument` for what is no path; an empty one would be the folder that the process is in
 */
export function folderResults(folder: string): ShardResults {
  if (typeof folder !== 'string' || folder === '') {
    throw new DetailFlowError(
      'invalid-argument',
      `the folder for results is ${describe(folder)}; give a path`,
    );
  }
  const root = path.resolve(folder);
  const placeOf = (job: string) => path.join(root, job.slice(0, 32));
  const fileOf = (job: string, range: ShardRange) => path.join(placeOf(job), `shard-${rangeName(range)}.npz`);
  return {
    name: root,
    async begin(job, { kind, identity }) {
      const file = path.join(placeOf(job), 'job.json');
      const text = canonicalJson({ job, kind, identity });
      try {
        await mkdir(placeOf(job), { recursive: true });
      } catch (cause) {
        throw ioError('cannot be made', placeOf(job), cause);
      }
      const found = await readFile(file, 'utf8').catch((cause: NodeJS.ErrnoException) => {
        if (cause.code === 'ENOENT') return undefined;
        throw ioError('cannot be read', file, cause);
      });
      if (found === text) return;
      if (found !== undefined) {
        throw new DetailFlowError(
          'config',
          'is of another job; remove the folder, or give another results folder',
          {
            file,
          },
        );
      }
      await writeFileAtomically(file, (write) => write(new TextEncoder().encode(text)));
    },
    async read(job, range) {
      const file = fileOf(job, range);
      const there = await stat(file).catch((cause: NodeJS.ErrnoException) => {
        if (cause.code === 'ENOENT' || cause.code === 'ENOTDIR') return undefined;
        throw ioError('cannot be read', file, cause);
      });
      if (!there) return undefined;
      const source = await openFile(file);
      try {
        return await decodeResult(source, job, range);
      } finally {
        await source.close();
      }
    },
    async write(job, range, result) {
      const bytes = encodeResult(job, range, result);
      await writeFileAtomically(fileOf(job, range), (write) => write(bytes));
    },
    async release() {},
    async tidy(job) {
      const place = placeOf(job);
      for (const name of await readdir(place).catch(() => [])) {
        if (/^\.shard-.*\.new-[0-9a-f]+$/.test(name)) await rm(path.join(place, name), { force: true });
      }
    },
  };
}

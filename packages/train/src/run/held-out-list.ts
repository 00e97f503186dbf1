import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { writeFileAtomically } from '@detailflow/checkpoint/node';
import { DetailFlowError } from '@detailflow/core';
import { type HoldOutRecord, parseHoldOutRecord } from '@detailflow/data';
import type { OpenedDataset } from '@detailflow/data/node';
import type { RunFolder } from './run-folder';

const FILE = 'held-out.json';

/** What a run knows of its images. */
export interface RunImages {
  readonly record: HoldOutRecord;
  readonly classNames: readonly string[];
}

/**
 * Lists what is held out in held-out.json of a run: names of files, or numbers where images have no names.
 */
export async function listHeldOut(
  folder: RunFolder,
  opened: OpenedDataset,
  record: HoldOutRecord,
): Promise<void> {
  const { heldOut, train } = opened;
  const { classNames } = train;
  const images = heldOut.names ?? numbers(opened);
  const text = JSON.stringify({ ...record, classNames, list: images }, undefined, 1);
  await writeFileAtomically(await folder.place(FILE), (write) =>
    write(new TextEncoder().encode(`${text}\n`)),
  );
}

/**
 * What a run folder says of its images.
 * @throws DetailFlowError `io` when it says nothing, `config` when that is damaged
 */
export async function readHeldOut(run: string): Promise<RunImages> {
  const file = path.join(run, FILE);
  const text = await readFile(file, 'utf8').catch((cause) => {
    throw new DetailFlowError('io', 'is missing: nothing was trained in this folder yet', { file, cause });
  });
  let value: Record<string, unknown>;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new DetailFlowError('config', 'is no JSON', { file, cause });
  }
  const { classNames } = value ?? {};
  const isNames = Array.isArray(classNames) && classNames.every((name) => typeof name === 'string');
  if (!isNames) throw new DetailFlowError('config', 'must be a list of names', { file, entry: 'classNames' });
  return { record: parseHoldOutRecord(value, { file }), classNames };
}

/** Numbers of the held-out images in the whole data set, or in its test part. */
function numbers({ isHeldOut, heldOut }: OpenedDataset): number[] {
  if (!isHeldOut) return Array.from({ length: heldOut.labels.length }, (_, i) => i);
  return [...isHeldOut.keys()].filter((i) => isHeldOut[i] === 1);
}

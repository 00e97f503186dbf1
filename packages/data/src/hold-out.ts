import { checkOptions, DetailFlowError, RandomStream } from '@detailflow/core';
import type { ImageDataset } from './dataset';
import { Purpose } from './purpose';
import { subset } from './subset';

/** Which images of a data set are held out. The same rule holds the same images out, in training as in evaluation. */
export interface HoldOutRule {
  /** Probability of every image, or group, to be held out. */
  readonly share: number;
  readonly seed: number;
  /**
   * Ends the part of a file's name that tells its group: with `__`, `1F600__noto.png` and `1F600__twemoji.png` are one
   * group. Groups are never divided. Without it every image is a group.
   */
  readonly groupBy?: string;
}

/** A data set in two parts. */
export interface HeldOutParts {
  readonly train: ImageDataset;
  readonly heldOut: ImageDataset;
  /** Of every image whether it is held out. */
  readonly isHeldOut: Uint8Array;
}

/**
 * Divides the images of a data set by the rule alone: an image by its number and the seed, a group by its name and the
 * seed, so that it stays on its side when other groups come or go. A class all of whose images would be held out keeps
 * its first group for training.
 * @throws DetailFlowError `invalid-argument` when one side would be empty, or the images have no names to be grouped by
 */
export function holdOut(dataset: ImageDataset, rule: HoldOutRule): HeldOutParts {
  checkOptions('holdOut', rule, { share: true, seed: true, groupBy: true });
  const { share, seed, groupBy } = rule;
  const isHeldOut =
    groupBy === undefined ? drawnImages(dataset, rule) : drawnGroups(dataset, { share, seed, groupBy });
  const groups = groupBy === undefined ? undefined : groupsOf(dataset, groupBy);
  keepEveryClass(dataset.labels, isHeldOut, groups);
  if (!isHeldOut.includes(1)) holdLastOut(isHeldOut, groups);
  const [train, heldOut]: [number[], number[]] = [[], []];
  for (const [i, out] of isHeldOut.entries()) (out ? heldOut : train).push(i);
  if (train.length === 0 || heldOut.length === 0) {
    throw new DetailFlowError(
      'invalid-argument',
      `${dataset.labels.length} images${groups ? ` in ${new Set(groups).size} groups` : ''} are too few to hold ${share} of them out`,
      { file: dataset.name },
    );
  }
  const part = `${share} by seed ${seed}${groupBy === undefined ? '' : `, grouped by ${groupBy}`}`;
  return {
    train: subset(dataset, train, `${dataset.name} without ${part}`),
    heldOut: subset(dataset, heldOut, `${dataset.name}, ${part}`),
    isHeldOut,
  };
}

function drawnImages({ labels }: ImageDataset, { share, seed }: HoldOutRule): Uint8Array {
  const random = new RandomStream({ seed, purpose: Purpose.heldOut, position: 0 });
  return Uint8Array.from({ length: labels.length }, () => Number(random.uniform() < share));
}

function drawnGroups(dataset: ImageDataset, rule: HoldOutRule & { groupBy: string }): Uint8Array {
  const { share, seed, groupBy } = rule;
  const drawn = new Map<string, number>();
  const draw = (group: string) => {
    const random = new RandomStream({ seed, purpose: Purpose.heldOutGroup, position: hash(group) });
    const found = Number(random.uniform() < share);
    drawn.set(group, found);
    return found;
  };
  return Uint8Array.from(groupsOf(dataset, groupBy), (group) => drawn.get(group) ?? draw(group));
}

/**
 * Of every image its group: its file's name up to the separator, or all of it where that is missing.
 * @throws DetailFlowError `invalid-argument` when the images have no names
 */
export function groupsOf({ names, name }: ImageDataset, separator: string): string[] {
  if (!names) {
    throw new DetailFlowError(
      'invalid-argument',
      `its images have no file names, so they cannot be grouped by "${separator}"; leave data.groupBy out`,
      { file: name },
    );
  }
  return names.map((path) => {
    const file = path.slice(path.lastIndexOf('/') + 1);
    const end = file.indexOf(separator);
    return end < 0 ? file : file.slice(0, end);
  });
}

function keepEveryClass(labels: Int32Array, isHeldOut: Uint8Array, groups?: readonly string[]): void {
  const trained = new Set(labels.filter((_, i) => isHeldOut[i] === 0));
  for (const label of new Set(labels)) {
    if (trained.has(label)) continue;
    const first = labels.indexOf(label);
    for (let i = 0; i < labels.length; i++) {
      const isIt = groups ? groups[i] === groups[first] : i === first;
      if (isIt) isHeldOut[i] = 0;
    }
  }
}

/** Something must be held out: the last group of a class that has others. */
function holdLastOut(isHeldOut: Uint8Array, groups?: readonly string[]): void {
  const last = isHeldOut.length - 1;
  for (let i = 0; i <= last; i++) if (groups ? groups[i] === groups[last] : i === last) isHeldOut[i] = 1;
}

/** FNV-1a of the text's UTF-8 bytes, 32 bits. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) value = Math.imul(value ^ byte, 0x01000193) >>> 0;
  return value;
}

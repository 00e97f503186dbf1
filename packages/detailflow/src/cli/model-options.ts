import type { FamilyModel } from '@detailflow/checkpoint';
import type { OpenHubOptions } from '@detailflow/hub/node';
import type { ModelSource } from '../folder-source';
import { Model } from '../load';
import { modelFolder } from '../model-package';
import { openForDType, requireDType } from '../open-for-dtype';
import { type Invocation, type Options, UsageError } from './command';
import { openDevice } from './device-backend';
import { familiesOf, familyModuleOption } from './family-module';
import { modelSettings, settingsOptions } from './model-settings';
import { following } from './progress';
import { showNotice } from './show-notice';
import { Values } from './values';

export const modelOptions: Options = {
  model: {
    type: 'string',
    value: 'DIR',
    source: 'model',
    help: 'bundle, official folder, package, a name of "detailflow models", hf:ORG/NAME, https:',
  },
  tokenizer: {
    type: 'string',
    value: 'DIR',
    source: 'model',
    help: 'official tokenizer: its folder or file (.pt, .pth), hf:, https:',
  },
  ar: {
    type: 'string',
    value: 'DIR',
    source: 'model',
    help: 'official AR model: its folder or file, hf:, https:',
  },
  partial: {
    type: 'boolean',
    help: 'from the hub only the tensors in use, by ranges: nothing kept, no hash checked',
  },
};

/** For commands that draw. */
export const dtypeOptions: Options = {
  dtype: {
    type: 'string',
    value: 'D',
    help: 'matrices: fp32 (default), q8 (8 bits, faster), q4 (4 bits, smallest, rougher), fp16 (WebGPU)',
  },
  cache: {
    type: 'boolean',
    help: 'keep the copy that --dtype q8 or q4 rounds: DETAILFLOW_CACHE, or ~/.cache/detailflow',
  },
};

/** For commands that take models of all families. */
export const familyOptions: Options = { ...modelOptions, ...settingsOptions, ...familyModuleOption };

/** The folder of a model that an argument names, by path or by package. */
export function namedFolder(text: string): string {
  const folder = modelFolder(text);
  if (folder !== undefined) return folder;
  throw new UsageError(
    `"${text}" is no folder, and no package with a model is installed by that name: npm install ${text}`,
  );
}

const WEIGHTS = ['*.pt', '*.pth', '*.ckpt', '*.bin', '*.safetensors'];

/** How a model on the hub is read. */
export function hubOptions(values: Values): OpenHubOptions {
  return { partial: values.flag('partial') ? WEIGHTS : undefined, onNotice: showNotice };
}

/** The model that --model, or --tokenizer and --ar, name. */
export function modelSource(values: Values, need: 'tokenizer' | 'both'): ModelSource {
  const [model, tokenizer, ar] = [values.text('model'), values.text('tokenizer'), values.text('ar')];
  if (model !== undefined) {
    if (tokenizer !== undefined || ar !== undefined)
      throw new UsageError('give --model, or --tokenizer and --ar, not both');
    return namedFolder(model);
  }
  if (tokenizer === undefined || (need === 'both' && ar === undefined)) {
    throw new UsageError(
      need === 'both'
        ? 'give --model DIR, or --tokenizer DIR and --ar DIR'
        : 'give --tokenizer DIR or --model DIR',
    );
  }
  return { tokenizer, ar };
}

/**
 * Opens the model for `work`, which checks its arguments against it and then calls `start` to bring it onto the
 * device. Frees everything whatever happens.
 */
export async function withModel<T>(
  invocation: Invocation,
  need: 'tokenizer' | 'both',
  work: (opened: FamilyModel, start: () => Promise<Model>) => Promise<T>,
): Promise<T> {
  const { signal, progress } = invocation;
  const values = new Values(invocation);
  const source = modelSource(values, need);
  const device = values.choice('device', ['cpu', 'cuda', 'webgpu', 'auto']);
  const dtype = values.choice('dtype', ['fp32', 'fp16', 'q8', 'q4']);
  if (dtype === 'fp16' && device !== 'webgpu')
    throw new UsageError('--dtype fp16 is for --device webgpu; without it give fp32, q8 or q4');
  const threads = values.whole('threads', { least: 1, most: 1024 });
  const settings = await modelSettings(values);
  const cache = values.flag('cache');
  if (cache && dtype !== 'q8' && dtype !== 'q4')
    throw new UsageError('--cache keeps a rounded copy: give --dtype q8 or q4 with it');
  const opened = await openForDType(source, {
    ...{ dtype, cache, settings, signal, hub: hubOptions(values) },
    families: await familiesOf(values),
    onProgress: following(progress),
  }).finally(() => progress.stop());
  let model: Model | undefined;
  try {
    requireDType(opened, dtype);
    return await work(opened, async () => {
      signal.throwIfAborted();
      model = new Model(opened, await openDevice({ device, threads, dtype }), { ownsBackend: true, dtype });
      return model;
    });
  } finally {
    progress.stop();
    await (model ? model.dispose() : opened.close());
  }
}

/** Consecutive parts of a list, each of at most `size` items. */
export function* chunks<T>(items: readonly T[], size: number): Generator<T[]> {
  for (let at = 0; at < items.length; at += size) yield items.slice(at, at + size);
}

/** Images that go through a model at once. */
export const BATCH = 16;

import { stat } from 'node:fs/promises';
import path from 'node:path';
import { type FileTree, newestCheckpoint, openStateDicts, withoutPrefixes } from '@detailflow/checkpoint';
import { openFolder } from '@detailflow/checkpoint/node';
import { DetailFlowError, type Weights } from '@detailflow/core';
import { agreedDType } from '@detailflow/core/rounded-weight';
import { isRemote } from '@detailflow/hub/node';
import {
  type InitialParameters,
  type InitialPart,
  readTraining,
  type TrainedTokenizer,
} from '@detailflow/train/node';
import { renamedVarWeights } from '@detailflow/var';
import { officialHalf } from '../detailflow-folder';
import { remoteWeights, toTree } from '../folder-source';
import { heldOutBy } from '../held-out-by';
import { openModel } from '../model-source';
import { openFamilyModel } from '../open-family';
import { UsageError } from './command';
import { namedFolder } from './model-options';
import { showNotice } from './show-notice';
import { tokenizerSource } from './tokenizer-source';

/** Weights that training begins with. Call `close` when done. */
export interface OpenedInitial extends Pick<InitialParameters, 'tokenizer' | 'ar'> {
  close(): Promise<void>;
}

type Key = 'model' | 'ema';
type Half = 'tokenizer' | 'ar';

/**
 * Opens what `--init` names: models (a bundle, a folder of an official model or of a half of it, a package), or files of weights of one half each,
 * .pt, .pth, .bin or .safetensors, in the official names, with or without the prefixes of DDP and torch.compile; here, or on the hub or a
 * web server.
 * @param options.isOfFamily models may be of any family; otherwise of DetailFlow alone
 * @param options.key which state dict of a .pt file; default: `model` of a tokenizer, `ema` of an AR model
 * @param options.withOptimiser also take the state of the training: of files .pt, and the newest one of an official folder
 * @throws UsageError when two of them hold the same half; DetailFlowError as the files are
 */
export async function openInitial(
  sources: readonly string[],
  options: {
    readonly key?: Key;
    readonly signal?: AbortSignal;
    readonly isOfFamily?: boolean;
    readonly withOptimiser?: boolean;
  },
): Promise<OpenedInitial> {
  const { key, signal, withOptimiser } = options;
  const found: { tokenizer?: InitialPart; ar?: InitialPart } = {};
  const open: (() => Promise<void>)[] = [];
  const close = async () => {
    for (const one of open) await one();
  };
  const take = (half: Half, part: InitialPart, source: string) => {
    if (found[half])
      throw new UsageError(
        `--init ${source}: there is an ${half === 'ar' ? 'AR model' : 'other tokenizer'} already`,
      );
    found[half] = part;
  };
  try {
    for (const source of sources) {
      const file = await weightsFile(source, { key, signal, withOptimiser });
      if (file !== undefined) {
        const { half, part, close: closeFile } = await openHalf(file, options);
        open.push(closeFile);
        take(half, part, source);
        continue;
      }
      const model = await openTrained(source, options);
      open.push(() => model.close());
      take('tokenizer', model.tokenizer, source);
      if (model.ar) {
        agreedDType(model.ar.weights, 'fp32', model.ar.file); // what is rounded is no beginning
        take('ar', model.ar, source);
      }
    }
    return { ...found, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** A model to begin with, or whose tokenizer is taken, here or on the hub. */
export async function openTrained(
  source: string,
  {
    isOfFamily,
    tokenizerKey,
    signal,
  }: { readonly isOfFamily?: boolean; readonly tokenizerKey?: Key; readonly signal?: AbortSignal },
): Promise<Pick<InitialParameters, Half> & { readonly tokenizer: TrainedTokenizer; close(): Promise<void> }> {
  const hub = { signal, onNotice: showNotice };
  const reading = { signal, hub, ...(tokenizerKey && { settings: { tokenizerKey } }) };
  const model = isOfFamily
    ? await openFamilyModel(namedFolder(source), reading)
    : await openModel(await tokenizerSource(source, { signal, hub }), reading);
  const { tokenizer, ar, card } = model;
  const close = () => model.close();
  try {
    const heldOut = heldOutBy(card, source);
    return {
      tokenizer: { ...tokenizer, heldOut },
      ...(ar && { ar: { ...ar, heldOut, classNames: card?.classNames } }),
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** A file of weights in its folder. */
interface PlacedFile {
  readonly tree: FileTree;
  readonly name: string;
  /** For messages. */
  readonly file: string;
}

/** The file of weights that a source is, here or on the hub; with a key, and of an AR model, the newest checkpoint of an official folder. */
async function weightsFile(
  source: string,
  { key, signal, withOptimiser }: Pick<Parameters<typeof openInitial>[1], 'key' | 'signal' | 'withOptimiser'>,
): Promise<PlacedFile | undefined> {
  const hub = { signal, onNotice: showNotice };
  if (isRemote(source)) {
    const one = await remoteWeights(source, hub);
    if (one) return { ...one, file: source };
  } else if ((await stat(source).catch(() => undefined))?.isFile()) {
    return { tree: await openFolder(path.dirname(source)), name: path.basename(source), file: source };
  }
  const tree = await toTree(namedFolder(source), { signal, hub });
  if (key === undefined && !withOptimiser && (await officialHalf(tree)) !== 'ar') return undefined;
  const newest = await newestCheckpoint(tree);
  if (newest !== undefined) return { tree, name: newest, file: `${source}/${newest}` };
  if (withOptimiser) {
    throw new UsageError(
      `--with-optimiser: ${source} has no checkpoints/*.pt, which keeps the state of a training; give an official folder of one half, or a .pt file`,
    );
  }
  if (key === undefined) return undefined;
  throw new UsageError(`--init-key: ${source} has no checkpoints/*.pt, which could hold several state dicts`);
}

async function openHalf(
  { tree, name, file }: PlacedFile,
  { key, signal, isOfFamily = false, withOptimiser }: Parameters<typeof openInitial>[1],
) {
  const dicts = await openStateDicts(tree, name, { signal });
  try {
    const whole = dicts.at([]);
    const named = (at: string) => dicts.at([at]);
    const bare = named('module') ?? named('state_dict') ?? whole;
    const first = named('model') ?? named('ema') ?? bare;
    const half: Half | undefined = first && halfOf(first, isOfFamily);
    if (!first || half === undefined) {
      throw new DetailFlowError(
        'weights',
        `holds neither a tokenizer (${signOf('tokenizer', isOfFamily).join(' or ')}) nor an AR model (${signOf('ar', isOfFamily).join(' or ')})${isOfFamily ? '' : ' of DetailFlow'}; there is ${dicts.keys.slice(0, 10).join(', ')}`,
        { file },
      );
    }
    if (withOptimiser) {
      const found = await readTraining(dicts, half);
      return { half, part: { ...found, file }, close: () => dicts.close() };
    }
    const byDefault = half === 'ar' ? ['ema', 'model'] : ['model', 'ema'];
    const [chosen] = (key === undefined ? byDefault : [key]).flatMap((name) => named(name) ?? []);
    if (key !== undefined && !chosen) {
      throw new DetailFlowError(
        'weights',
        `has no state dict "${key}"; there is ${dicts.keys.slice(0, 10).join(', ')}`,
        {
          file,
        },
      );
    }
    const own = withoutPrefixes((chosen ?? bare ?? first).values(), file);
    const weights = own.has('encoder.down.0.block.0.conv1.weight') ? renamedVarWeights(own) : own;
    return { half, part: { weights, file }, close: () => dicts.close() };
  } catch (error) {
    await dicts.close();
    throw error;
  }
}

/** Weights that tell the halves: of DetailFlow, and of other families. */
const signs = {
  tokenizer: ['encoder.latent_tokens', 'quantize.embedding.weight'],
  ar: ['tok_embeddings.weight', 'word_embed.weight'],
} as const;

const signOf = (half: Half, isOfFamily: boolean): readonly string[] =>
  isOfFamily ? signs[half] : signs[half].slice(0, 1);

function halfOf(weights: Weights, isOfFamily: boolean): Half | undefined {
  const names = [...weights.keys()].map((name) => name.replace(/^(?:module\.|_orig_mod\.)+/, ''));
  const halves: readonly Half[] = ['tokenizer', 'ar'];
  return halves.find((half) => signOf(half, isOfFamily).some((name) => names.includes(name)));
}

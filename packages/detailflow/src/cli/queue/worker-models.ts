import { arch, cpus } from 'node:os';
import type { ConfigObject, FamilyModel } from '@detailflow/checkpoint';
import { DetailFlowError, type WeightDType } from '@detailflow/core';
import type { Extractor } from '@detailflow/eval';
import { openExtractor } from '@detailflow/eval/node';
import { Model } from '../../load';
import { openFamilyModel } from '../../open-family';
import type { Command, Invocation } from '../command';
import { openDevice } from '../device-backend';
import { localSources } from '../local-sources';
import { modelOptions, modelSource } from '../model-options';
import { Values } from '../values';
import { asJson, requireSame, stampsOf } from './model-identity';

/** What `modelIdentity` says. */
interface ModelIdentity {
  readonly family: string;
  readonly stamps: unknown;
  readonly settings: ConfigObject | null;
  readonly configurations?: unknown;
  readonly dtype?: WeightDType;
}

export interface WorkerModel {
  readonly model: Model;
  readonly opened: FamilyModel;
  readonly extractor?: Extractor;
  /** Kind of machine and device. */
  readonly machine: string;
}

type Device = 'cpu' | 'cuda' | 'webgpu' | 'auto';

/** Options of the worker that name files, instead of the hints of jobs. */
const sources = {
  name: 'worker',
  options: { ...modelOptions, features: { type: 'string', source: 'files', help: '' } },
} as unknown as Command;

/** The model that a worker has on its device: that of the last job, which the next one often needs, too. */
export class WorkerModels {
  readonly #invocation: Invocation;
  readonly #device?: Device;
  readonly #threads?: number;
  #held: { readonly key: string; readonly made: WorkerModel } | undefined;

  constructor(invocation: Invocation, options: { readonly device?: Device; readonly threads?: number }) {
    this.#invocation = invocation;
    this.#device = options.device;
    this.#threads = options.threads;
  }

  /**
   * Opens what a job means, at the place that the worker was told, else where the job says.
   * @throws DetailFlowError `config` when it has another content; what opening a model throws
   */
  async open(identity: unknown, hints: unknown): Promise<WorkerModel> {
    const wanted = parseIdentity(identity);
    const names = this.#names(hints);
    const key = JSON.stringify([identity, names]);
    if (this.#held?.key === key) return this.#held.made;
    await this.close();
    const { signal, progress } = this.#invocation;
    const local = await localSources(sources, { values: names, positionals: [] }, { signal, progress });
    const values = new Values({ ...this.#invocation, values: local.values });
    requireSame(await stampsOf(values), wanted.stamps, local.values);
    const settings = wanted.settings ?? undefined;
    const opened = await openFamilyModel(modelSource(values, 'tokenizer'), { settings, signal });
    let model: Model | undefined;
    try {
      const configurations = JSON.stringify(asJson([opened.tokenizer.config, opened.ar?.config]));
      const isSame =
        opened.family === wanted.family &&
        (wanted.configurations === undefined || JSON.stringify(wanted.configurations) === configurations);
      if (!isSame) {
        throw new DetailFlowError('config', 'the model is opened with other settings than the job means', {
          file: opened.tokenizer.file,
        });
      }
      const backend = await openDevice({
        device: this.#device,
        threads: this.#threads,
        dtype: wanted.dtype,
      });
      model = new Model(opened, backend, { ownsBackend: true, dtype: wanted.dtype });
      const file = values.text('features');
      const extractor = file === undefined ? undefined : await openExtractor(file, backend);
      const machine = `${arch()}, ${cpus()[0]?.model.trim() ?? 'unknown'}, ${backend.name}`;
      this.#held = { key, made: { model, opened, extractor, machine } };
      return this.#held.made;
    } catch (error) {
      await (model ? model.dispose() : opened.close());
      throw error;
    }
  }

  async close(): Promise<void> {
    const held = this.#held?.made;
    this.#held = undefined;
    await held?.extractor?.dispose();
    await held?.model.dispose();
  }

  /** Where the files are. A worker that was told where its model is takes nothing of that from a job. */
  #names(hints: unknown): Record<string, string> {
    const told = (names: readonly string[], from: Readonly<Record<string, unknown>>) =>
      Object.fromEntries(
        names.flatMap((name) =>
          typeof from[name] === 'string' && from[name] !== '' ? [[name, from[name]]] : [],
        ),
      );
    const { values } = this.#invocation;
    const said = (typeof hints === 'object' && hints !== null ? hints : {}) as Record<string, unknown>;
    const model = ['model', 'tokenizer', 'ar'];
    const own = told(model, values);
    return {
      ...(Object.keys(own).length > 0 ? own : told(model, said)),
      ...told(['features'], said),
      ...told(['features'], values),
    } as Record<string, string>;
  }
}

function parseIdentity(value: unknown): ModelIdentity {
  const { family, stamps, settings, dtype } = (value ?? {}) as Partial<ModelIdentity>;
  const isValid =
    typeof family === 'string' &&
    typeof stamps === 'object' &&
    typeof settings === 'object' &&
    (dtype === undefined || ['fp32', 'fp16', 'q8', 'q4'].includes(dtype));
  if (!isValid) throw new DetailFlowError('format', 'the job does not say which model it is for');
  return value as ModelIdentity;
}

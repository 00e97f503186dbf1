import { randomBytes } from 'node:crypto';
import { type FileHandle, open, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { FamilyModel } from '@detailflow/checkpoint';
import {
  checkOptions,
  DetailFlowError,
  formatShape,
  readFloat32,
  type Value,
  type Weights,
} from '@detailflow/core';
import { type FilePlacement, toOnnx, toOnnxLoop } from '@detailflow/onnx';
import type { ModelSource } from './folder-source';
import { type OpenFamilyOptions, openFamilyModel } from './open-family';
import { requireDType } from './open-for-dtype';

/** Options of {@link exportOnnx}. */
export interface ExportOptions extends OpenFamilyOptions {
  /**
   * What is written: the whole `generator` (default), or a part of the model: its tokenizer's `encoder` or `decoder`, a `step`
   * of its transformer, and what else the family has.
   */
  readonly part?: string;
  /** How the guidance scale runs along the groups of a generator: 'constant' (default), or lowered from group to group. */
  readonly guidance?: 'constant' | 'gradual';
  /** Told how far it is. */
  readonly onProgress?: (progress: { done: number; total: number; unit: 'tensors' }) => void;
}

/** An input or output of an exported model. */
export interface ExportedPort {
  readonly name: string;
  readonly dtype: string;
  /** Extents; a text where it may be any number: "batch". */
  readonly shape: string;
}

/** What was written. */
export interface ExportedModel {
  readonly part: string;
  /** Beside the weights: what is fed, states included. */
  readonly inputs: readonly ExportedPort[];
  readonly outputs: readonly ExportedPort[];
}

/**
 * Writes a model, or a part of it, as one standard ONNX model, `out`, with its weights beside it in `out`.data. Any ONNX
 * runtime runs it. Nodes bear the names of the model's parts.
 *
 * A generator draws whole pictures. Inputs: labels int32 [B], noise float32 [B, N, V] of Exp(1) draws, cfg float32 [1],
 * temperature float32 [1]; outputs: tokens int32 [B, N], pixels float32 [B, 3, S, S]. DetailFlow, LlamaGen and PAR have one.
 * Limits: B is at least 1, labels are 0 .. classes (the last is "no class"), and noise has as many rows as labels: the graph
 * looks labels up and shapes the noise, so ONNX Runtime ends in an error that names `labels` or `noise`. A runtime that
 * does not check the bounds of Gather (some devices do not) draws some class instead. Draws and temperature must be above
 * 0; nothing in the graph checks that.
 *
 * A step has a KV cache: each state X is the input `state.X` and, after the step, the output `next.X`.
 * @throws DetailFlowError; nothing is left behind on failure
 * @see https://detailflow.github.io/detailflow-ts/guide/onnx-python.html
 */
export async function exportOnnx(
  source: ModelSource,
  out: string,
  options: ExportOptions = {},
): Promise<ExportedModel> {
  checkOptions('exportOnnx', options, {
    ...{
      part: true,
      guidance: true,
      signal: true,
      onProgress: true,
      families: true,
      settings: true,
      hub: true,
    },
  });
  const { families, settings, hub, signal } = options;
  const opened = await openFamilyModel(source, { families, settings, hub, signal });
  const id = randomBytes(4).toString('hex');
  const aside = (file: string) => path.join(path.dirname(file), `.${path.basename(file)}.${id}`);
  const data = `${out}.data`;
  try {
    requireDType(opened, 'fp32');
    const plan = planOf(opened, options);
    const placements = await writeWeights(aside(data), path.basename(data), plan.weights, options);
    await writeFile(
      aside(out),
      plan.encode((name) => placements.get(name) as FilePlacement),
    );
    options.signal?.throwIfAborted();
    await rename(aside(data), data);
    await rename(aside(out), out);
    return plan.model;
  } catch (error) {
    await Promise.all([rm(aside(data), { force: true }), rm(aside(out), { force: true })]);
    if (DetailFlowError.isInstance(error) || error === options.signal?.reason) throw error;
    throw new DetailFlowError('io', `cannot be written (${(error as Error).message})`, {
      file: out,
      cause: error,
    });
  } finally {
    await opened.close();
  }
}

/** What is to be written: the weights, and then the bytes of the graph that says where they are. */
interface Plan {
  readonly model: ExportedModel;
  readonly weights: Weights;
  encode(placeWeight: (name: string) => FilePlacement): Uint8Array;
}

function planOf(opened: FamilyModel, { part = 'generator', guidance }: ExportOptions): Plan {
  if (part === 'generator') return generatorPlan(opened, guidance);
  const graphs = opened.graphs ?? {};
  if (!Object.hasOwn(graphs, part)) throw noSuchPart(opened, part);
  const { graph, weights } = graphs[part]();
  const states = [...graph.states];
  const ports = (kind: 'inputs' | 'outputs') => [...graph[kind]].map(([name, value]) => portOf(name, value));
  return {
    model: {
      part,
      inputs: [...ports('inputs'), ...states.map(([name, { before }]) => portOf(`state.${name}`, before))],
      outputs: [...ports('outputs'), ...states.map(([name, { after }]) => portOf(`next.${name}`, after))],
    },
    weights: needed([...graph.weights.keys()], weights),
    encode: (placeWeight) => toOnnx(graph, { placeWeight }).bytes,
  };
}

function generatorPlan(opened: FamilyModel, guidance: ExportOptions['guidance']): Plan {
  const { ar, tokenizer } = opened;
  if (!ar)
    throw new DetailFlowError('unsupported', 'this model has no AR part: there is no generator to export', {
      file: tokenizer.file,
    });
  const graphs = opened.generatorGraphs?.({ guidance });
  if (!graphs) throw noSuchPart(opened, 'generator');
  const { counter, iterations, body, last } = graphs;
  const inputs = [...body.inputs].filter(([name]) => name !== counter);
  return {
    model: {
      part: 'generator',
      inputs: inputs.map(([name, value]) => portOf(name, value)),
      outputs: [...last.outputs].map(([name, value]) => portOf(name, value)),
    },
    weights: needed([...body.weights.keys(), ...last.weights.keys()], ar.weights, tokenizer.weights),
    encode: (placeWeight) => toOnnxLoop({ body, counter, iterations, last, placeWeight }),
  };
}

function noSuchPart({ family, graphs = {}, generatorGraphs, ar, tokenizer }: FamilyModel, part: string) {
  const parts = [...(generatorGraphs ? ['generator'] : []), ...Object.keys(graphs)];
  return new DetailFlowError(
    'unsupported',
    `this model of ${family} has no part "${part}" that could be exported; it has ${parts.join(', ') || 'none'}`,
    { file: (ar ?? tokenizer).file },
  );
}

const portOf = (name: string, { dtype, shape }: Value): ExportedPort => ({
  ...{ name, dtype, shape: formatShape(shape) },
});

/** The weights of these names, from the first place that has them. */
function needed(names: readonly string[], ...places: readonly Weights[]): Weights {
  return new Map(
    names.map((name) => {
      const weight = places.find((one) => one.has(name))?.get(name);
      if (!weight) throw new DetailFlowError('weights', 'the weight is missing', { entry: name });
      return [name, weight];
    }),
  );
}

/** Offsets of weights, so that a runtime can map them page by page. */
const PAGE = 4096;

/** Writes weights as float32, one after the other, and says where each is. */
async function writeWeights(
  file: string,
  name: string,
  weights: Weights,
  { signal, onProgress }: ExportOptions,
): Promise<Map<string, FilePlacement>> {
  const placements = new Map<string, FilePlacement>();
  const handle: FileHandle = await open(file, 'wx');
  try {
    let offset = 0;
    for (const weight of weights.values()) {
      signal?.throwIfAborted();
      const { buffer, byteOffset, byteLength } = await readFloat32(weight);
      const bytes = new Uint8Array(buffer, byteOffset, byteLength);
      for (let written = 0; written < byteLength; ) {
        written += (await handle.write(bytes, written, byteLength - written, offset + written)).bytesWritten;
      }
      placements.set(weight.name, { file: name, offset, length: byteLength });
      offset = Math.ceil((offset + byteLength) / PAGE) * PAGE;
      onProgress?.({ done: placements.size, total: weights.size, unit: 'tensors' });
    }
    await handle.sync();
  } finally {
    await handle.close();
  }
  return placements;
}

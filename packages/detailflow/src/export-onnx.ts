import { randomBytes } from 'node:crypto';
import { type FileHandle, open, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { checkOptions, DetailFlowError, readFloat32, type Weights } from '@detailflow/core';
import { type FilePlacement, toOnnxLoop } from '@detailflow/onnx';
import type { ModelSource } from './folder-source';
import { generatorGraphs } from './generator-graph';
import { openModel } from './model-source';

/** Options of {@link exportOnnx}. */
export interface ExportOptions {
  /** How the guidance scale runs along the groups: 'constant' (default), or lowered from group to group. */
  readonly guidance?: 'constant' | 'gradual';
  readonly signal?: AbortSignal;
  /** Told how far it is. */
  readonly onProgress?: (progress: { done: number; total: number; unit: 'tensors' }) => void;
}

/**
 * Writes a whole generator as one standard ONNX model, `out`, with its weights beside it in `out`.data. Any ONNX
 * runtime runs it. Inputs: labels int32 [B], noise float32 [B, N, V] of Exp(1) draws, cfg float32 [1], temperature
 * float32 [1]; outputs: tokens int32 [B, N], pixels float32 [B, 3, S, S]. Nodes bear the names of the model's parts.
 *
 * Limits: B is at least 1, labels are 0 .. classes (the last is "no class"), and noise has as many rows as labels: the graph
 * looks labels up and shapes the noise, so ONNX Runtime ends in an error that names `labels` or `noise`. A runtime that
 * does not check the bounds of Gather (some devices do not) draws some class instead. Draws and temperature must be above
 * 0; nothing in the graph checks that.
 * @throws DetailFlowError; nothing is left behind on failure
 */
export async function exportOnnx(
  source: ModelSource,
  out: string,
  options: ExportOptions = {},
): Promise<void> {
  checkOptions('exportOnnx', options, { guidance: true, signal: true, onProgress: true });
  const opened = await openModel(source, { signal: options.signal });
  const id = randomBytes(4).toString('hex');
  const aside = (file: string) => path.join(path.dirname(file), `.${path.basename(file)}.${id}`);
  const data = `${out}.data`;
  try {
    const { tokenizer, ar } = opened;
    if (!ar)
      throw new DetailFlowError('unsupported', 'this model has no AR part: there is no generator to export');
    const { counter, iterations, body, last } = generatorGraphs(tokenizer.config, ar.config, {
      guidance: options.guidance,
    });
    const needed: Weights = new Map(
      [...body.weights.keys(), ...last.weights.keys()].map((name) => {
        const weight = ar.weights.get(name) ?? tokenizer.weights.get(name);
        if (!weight) throw new DetailFlowError('weights', 'the weight is missing', { entry: name });
        return [name, weight];
      }),
    );
    const placements = await writeWeights(aside(data), path.basename(data), needed, options);
    const placeWeight = (name: string) => placements.get(name) as FilePlacement;
    await writeFile(aside(out), toOnnxLoop({ body, counter, iterations, last, placeWeight }));
    options.signal?.throwIfAborted();
    await rename(aside(data), data);
    await rename(aside(out), out);
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

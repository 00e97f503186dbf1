import { DetailFlowError } from '@detailflow/core';
import { bytesOf, type ElementType } from './element-type';
import type { Kernel, ShaderFeatures } from './kernel';
import { THREADS } from './kernels/gathering';
import { type Matrices, TfjsDevice } from './tfjs';
import { UniformArena } from './uniform-arena';

/** A flat array on the device. It is never written again once it is made, but by who alone holds it. */
export interface GpuArray {
  readonly buffer: GPUBuffer;
  readonly size: number;
  readonly type: ElementType;
  /** How many hold it; the last one to release it frees it. */
  holders: number;
}

/** What was asked of a device so far. */
export interface GpuCounts {
  /** Kernels run. */
  dispatches: number;
  /** Arrays copied to the device. */
  uploads: number;
  /** Arrays copied from it. */
  reads: number;
  /** Times that recorded commands were sent to it. */
  submissions: number;
  /** Milliseconds that this side took to bring feeds, record kernels and submit them, in runs of graphs. */
  recordingMs: number;
}

/** A kernel with its types, numbers and workgroups: all but its arrays. */
export interface Launch {
  readonly pipeline: GPUComputePipeline;
  readonly layout: Layout;
  /** The numbers as they lie in the uniform buffer. */
  readonly words: Int32Array;
  readonly groups: readonly [x: number, y: number];
}

interface Layout {
  readonly id: string;
  readonly bindGroup: GPUBindGroupLayout;
  readonly pipeline: GPUPipelineLayout;
}

const BYTES = 4;
/** Bind groups that are kept; the oldest go first. */
const MOST_BIND_GROUPS = 8192;

/**
 * Arrays and kernels on a device. Commands are recorded, and submitted when a run is complete; only reading waits for
 * them. Buffers that a recorded kernel was the last to need serve later kernels at once, since a device runs kernels as
 * if one after the other.
 */
export class Gpu {
  readonly counts: GpuCounts = { dispatches: 0, uploads: 0, reads: 0, submissions: 0, recordingMs: 0 };
  readonly #device: GPUDevice;
  readonly #features: ShaderFeatures;
  readonly #tfjs: TfjsDevice;
  readonly #arena: UniformArena;
  readonly #kernels = new Map<string, Kernel>();
  readonly #layouts = new Map<string, Layout>();
  readonly #pipelines = new Map<string, GPUComputePipeline>();
  readonly #bindGroups = new Map<string, GPUBindGroup>();
  readonly #usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;

  /**
   * @param options.halves whether kernels read halves as the device does
   * @throws when tfjs cannot use the device
   */
  constructor(device: GPUDevice, info: GPUAdapterInfo | undefined, options: { readonly halves: boolean }) {
    this.#device = device;
    this.#features = { subgroups: device.features.has('subgroups'), halves: options.halves };
    this.#tfjs = new TfjsDevice(device, info, {
      onSubmit: () => {
        this.#arena.flush();
        this.counts.submissions++;
      },
      onDispatch: () => this.counts.dispatches++,
    });
    this.#arena = new UniformArena(device, this.#tfjs.pool);
  }

  /** Bytes in buffers that are in use, and in all that are held for use. */
  memory(): { used: number; allocated: number } {
    const { numBytesUsed, numBytesAllocated } = this.#tfjs.pool;
    return { used: numBytesUsed, allocated: numBytesAllocated };
  }

  /** The kernel of this name, made when it is first asked for. */
  kernel(key: string, make: () => Kernel): Kernel {
    const known = this.#kernels.get(key) ?? make();
    this.#kernels.set(key, known);
    return known;
  }

  /** An array of `size` elements, of which nothing is known. */
  allocate(size: number, type: ElementType): GpuArray {
    return {
      buffer: this.#tfjs.pool.acquireBuffer(bytesOf(size, type), this.#usage),
      size,
      type,
      holders: 1,
    };
  }

  /** Copies values to the device, halves as their bits; what was recorded so far is submitted. */
  upload(data: Float32Array | Int32Array | Uint8Array | Uint16Array): GpuArray {
    const type = data instanceof Float32Array ? 'float32' : data instanceof Uint16Array ? 'float16' : 'int32';
    this.requireRoom(data.length, 'an array', type);
    // A buffer that is free may still be read by commands that are recorded only, and this does not wait for them.
    this.submit();
    const array = this.allocate(data.length, type);
    const values = data instanceof Uint8Array ? Int32Array.from(data) : unshared(wholeWords(data));
    if (values.length > 0)
      this.#device.queue.writeBuffer(array.buffer, 0, values as Float32Array<ArrayBuffer>);
    this.counts.uploads++;
    return array;
  }

  /** Zeros. */
  zeros(size: number, type: ElementType): GpuArray {
    this.requireRoom(size, 'an array');
    const array = this.allocate(size, type);
    this.#tfjs.encoder().clearBuffer(array.buffer);
    return array;
  }

  /** Another array of the same values. */
  copy({ buffer, size, type }: GpuArray): GpuArray {
    const array = this.allocate(size, type);
    this.#tfjs.encoder().copyBufferToBuffer(buffer, 0, array.buffer, 0, bytesOf(size, type));
    return array;
  }

  /**
   * Makes a kernel ready.
   * @param run.types of the results, then of the inputs
   * @param run.size elements of the first result
   * @param run.groups workgroups; default: one thread for each element
   */
  prepare(
    kernel: Kernel,
    run: { types: readonly ElementType[]; size: number; numbers: readonly number[]; groups?: number },
  ): Launch {
    const { types, size, numbers, groups = Math.ceil(size / THREADS) } = run;
    const words = kernel.words(size, numbers);
    const count = Math.max(1, groups);
    const layout = this.#layout(kernel.results, kernel.inputs, this.#arena.bindingSize(words));
    const most = this.#device.limits.maxComputeWorkgroupsPerDimension;
    const x = Math.min(count, most);
    return {
      pipeline: this.#pipeline(kernel.wgsl(types, this.#features), layout),
      layout,
      words,
      groups: [x, Math.ceil(count / x)],
    };
  }

  /** Records a kernel. @param arrays results, then inputs */
  launch({ pipeline, layout, words, groups: [x, y] }: Launch, arrays: readonly GpuArray[]): void {
    if (!this.#arena.hasRoom(words)) this.submit();
    const offset = this.#arena.write(words);
    const pass = this.#tfjs.pass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, this.#bindGroup(layout, arrays, words), [offset]);
    pass.dispatchWorkgroups(x, y);
    this.counts.dispatches++;
  }

  /** Records a product of batches of matrices by tfjs: a [p, m, k] or transposed, b [q, k, n] or transposed, p = q or one of them 1. */
  product(
    a: Matrices,
    b: Matrices,
    options: { transposeA: boolean; transposeB: boolean; size: number },
  ): GpuArray {
    const { size, transposeA, transposeB } = options;
    return {
      buffer: this.#tfjs.product(a, b, { transposeA, transposeB }),
      size,
      type: 'float32',
      holders: 1,
    };
  }

  /** Submits what was recorded. */
  submit(): void {
    if (this.#tfjs.isRecording) this.#tfjs.submit();
  }

  /** Submits what was recorded, and copies arrays from the device; the promise waits for it. */
  read(arrays: readonly GpuArray[]): Promise<(Float32Array | Int32Array)[]> {
    const total = arrays.reduce((sum, { size }) => sum + BYTES * size, 0);
    this.counts.reads += arrays.length;
    if (total === 0) {
      this.submit();
      return Promise.resolve(arrays.map(({ type }) => valuesOf(type, new ArrayBuffer(0))));
    }
    const { pool } = this.#tfjs;
    const staging = pool.acquireBuffer(total, GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST);
    const encoder = this.#tfjs.encoder();
    let offset = 0;
    for (const { buffer, size } of arrays) {
      if (size > 0) encoder.copyBufferToBuffer(buffer, 0, staging, offset, BYTES * size);
      offset += BYTES * size;
    }
    this.submit();
    return this.#map(staging, arrays);
  }

  /**
   * Does something with the device, and finds what it objected to.
   * @param work calls of the device without waiting
   */
  watch<T>(work: () => T): { result: T; fault: Promise<DetailFlowError | undefined> } {
    const device = this.#device;
    for (const filter of ['internal', 'out-of-memory', 'validation'] as const) device.pushErrorScope(filter);
    const pop = () => [device.popErrorScope(), device.popErrorScope(), device.popErrorScope()];
    let result: T;
    try {
      result = work();
    } catch (error) {
      for (const popped of pop()) popped.catch(() => {}); // the device is gone, which others tell
      throw error;
    }
    const fault = Promise.all(pop()).then(
      (errors) => {
        const error = errors.find((found) => found !== null);
        return error ? this.explain(error) : undefined;
      },
      () => undefined, // the device is gone, which others tell
    );
    return { result, fault };
  }

  /** What an objection of the device means. Where its memory is full, what nobody uses is let go of. */
  explain(error: GPUError): DetailFlowError {
    if (!(error instanceof GPUOutOfMemoryError)) {
      return new DetailFlowError('runtime', `WebGPU: ${error.message}`);
    }
    this.#tfjs.pool.trim();
    return new DetailFlowError(
      'limit',
      `the WebGPU device has no memory left (${error.message}): take a smaller batch, or a smaller model`,
    );
  }

  hold(array: GpuArray): GpuArray {
    array.holders++;
    return array;
  }

  release(array: GpuArray): void {
    array.holders--;
    if (array.holders === 0) this.#tfjs.pool.releaseBuffer(array.buffer);
  }

  /** @throws DetailFlowError `limit` when the device takes no array of so many elements */
  requireRoom(size: number, what: string, type: ElementType = 'float32'): void {
    const bytes = bytesOf(size, type);
    const { maxStorageBufferBindingSize, maxBufferSize } = this.#device.limits;
    const most = Math.min(maxStorageBufferBindingSize, maxBufferSize);
    if (bytes <= most) return;
    throw new DetailFlowError(
      'limit',
      `${what} needs ${bytes} bytes, this WebGPU adapter allows ${most}: take a smaller batch, or another adapter`,
    );
  }

  dispose(): void {
    this.#tfjs.dispose();
  }

  async #map(staging: GPUBuffer, arrays: readonly GpuArray[]): Promise<(Float32Array | Int32Array)[]> {
    try {
      await staging.mapAsync(GPUMapMode.READ);
      const bytes = staging.getMappedRange();
      let start = 0;
      const values = arrays.map(({ size, type }) => {
        const own = bytes.slice(start, start + BYTES * size);
        start += BYTES * size;
        return valuesOf(type, own);
      });
      staging.unmap();
      return values;
    } catch (cause) {
      const { message } = cause as Error;
      throw new DetailFlowError('runtime', `WebGPU: results could not be read (${message})`, { cause });
    } finally {
      this.#tfjs.pool.releaseBuffer(staging);
    }
  }

  #layout(results: number, inputs: number, bytes: number): Layout {
    const id = `${results} ${inputs} ${bytes}`;
    const known = this.#layouts.get(id);
    if (known) return known;
    const visibility = GPUShaderStage.COMPUTE;
    const arrays = Array.from({ length: results + inputs }, (_, binding): GPUBindGroupLayoutEntry => {
      const type = binding < results ? 'storage' : 'read-only-storage';
      return { binding, visibility, buffer: { type } };
    });
    const numbers = {
      ...{ binding: arrays.length, visibility },
      buffer: { type: 'uniform', hasDynamicOffset: true, minBindingSize: bytes } as const,
    };
    const bindGroup = this.#device.createBindGroupLayout({ entries: [...arrays, numbers] });
    const pipeline = this.#device.createPipelineLayout({ bindGroupLayouts: [bindGroup] });
    const layout = { id, bindGroup, pipeline };
    this.#layouts.set(id, layout);
    return layout;
  }

  #pipeline(code: string, layout: Layout): GPUComputePipeline {
    const known = this.#pipelines.get(code);
    if (known) return known;
    const module = this.#device.createShaderModule({ code });
    const pipeline = this.#device.createComputePipeline({
      layout: layout.pipeline,
      compute: { module, entryPoint: 'start' },
    });
    this.#pipelines.set(code, pipeline);
    return pipeline;
  }

  #bindGroup(layout: Layout, arrays: readonly GpuArray[], words: Int32Array): GPUBindGroup {
    let key = layout.id;
    for (const { buffer } of arrays) key += ` ${this.#tfjs.pool.numberOf(buffer)}`;
    const known = this.#bindGroups.get(key);
    if (known) return known;
    const entries = arrays.map(
      ({ buffer }, binding): GPUBindGroupEntry => ({ binding, resource: { buffer } }),
    );
    const group = this.#device.createBindGroup({
      layout: layout.bindGroup,
      entries: [...entries, { binding: arrays.length, resource: this.#arena.binding(words) }],
    });
    this.#bindGroups.set(key, group);
    if (this.#bindGroups.size > MOST_BIND_GROUPS) {
      for (const oldest of this.#bindGroups.keys()) {
        this.#bindGroups.delete(oldest);
        break;
      }
    }
    return group;
  }
}

/** A device takes whole words: an odd number of halves gets another one. */
const wholeWords = <T extends Float32Array | Int32Array | Uint16Array>(data: T): T => {
  if (data.byteLength % BYTES === 0) return data;
  const padded = new Uint16Array(data.length + 1);
  padded.set(data);
  return padded as T;
};

const valuesOf = (type: ElementType, bytes: ArrayBuffer) =>
  type === 'float32' ? new Float32Array(bytes) : new Int32Array(bytes);

/** A device takes no memory that several threads share. */
const unshared = <T extends Float32Array | Int32Array | Uint16Array>(data: T): T =>
  typeof SharedArrayBuffer !== 'undefined' && data.buffer instanceof SharedArrayBuffer
    ? (data.slice() as T)
    : data;

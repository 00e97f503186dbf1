import {
  DetailFlowError,
  type DType,
  requireEntries,
  requireLike,
  type State,
  type StateEntries,
  type Tensor,
} from '@detailflow/core';
import type { Request, WireTensor } from './protocol';
import { fromTensor, toTensor } from './wire-tensor';
import type { WorkerClient } from './worker-client';

/** What is known of a buffer outside the worker. */
interface BufferKind {
  readonly dtype: DType;
  readonly shape: readonly number[];
}

const dtypes: Readonly<Record<WireTensor['type'], DType>> = { float32: 'f32', int32: 'i32', bool: 'bool' };

/** Makes the buffers of a state in the worker. */
export async function makeState(
  id: number,
  owner: object,
  buffers: Extract<Request, { kind: 'create-state' }>['buffers'],
  worker: WorkerClient,
): Promise<NodeState> {
  await worker.send({ kind: 'create-state', state: id, buffers });
  const kinds = Object.entries(buffers).map(
    ([name, { type, dims }]) => [name, { dtype: dtypes[type], shape: dims }] as const,
  );
  return new NodeState(id, owner, new Map(kinds), worker);
}

/** A state whose buffers lie in the worker; or a window of one. */
export class NodeState implements State {
  readonly id: number;
  /** The executable or the backend that the state was made by. */
  readonly owner: object;
  /** The part of the buffers of `whole` that this is a window of. */
  readonly entries?: StateEntries;
  /** As they were made. */
  readonly #made: ReadonlyMap<string, BufferKind>;
  /** As they are, of a whole state. */
  #buffers: ReadonlyMap<string, BufferKind>;
  readonly #whole?: NodeState;
  readonly #worker: WorkerClient;
  #disposed = false;

  constructor(
    id: number,
    owner: object,
    buffers: ReadonlyMap<string, BufferKind>,
    worker: WorkerClient,
    part?: { readonly whole: NodeState; readonly entries: StateEntries },
  ) {
    this.id = id;
    this.owner = owner;
    this.#made = buffers;
    this.#buffers = buffers;
    this.#worker = worker;
    this.entries = part?.entries;
    this.#whole = part?.whole;
  }

  get buffers(): ReadonlyMap<string, BufferKind> {
    const { entries } = this;
    if (!this.#whole || !entries) return this.#buffers;
    const kinds = [...this.#whole.buffers].map(([name, { dtype, shape }]) => {
      requireEntries(name, shape, entries.first, entries.count);
      return [name, { dtype, shape: shape.with(0, entries.count) }] as const;
    });
    return new Map(kinds);
  }

  requireOpen(): void {
    this.#whole?.requireOpen();
    if (this.#disposed) throw new DetailFlowError('closed', 'the state is disposed');
  }

  window(first: number, count: number): State {
    this.#requireWhole();
    for (const [name, { shape }] of this.buffers) requireEntries(name, shape, first, count);
    const part = { whole: this, entries: { first, count } };
    return new NodeState(this.id, this.owner, new Map(), this.#worker, part);
  }

  async copyEntry(from: number, to: number): Promise<void> {
    this.#requireWhole();
    for (const [name, { shape }] of this.buffers) {
      for (const entry of [from, to]) requireEntries(name, shape, entry, 1);
    }
    await this.#worker.send({ kind: 'copy-entry', state: this.id, from, to });
  }

  async resize(axis: number, extent: number, entries?: StateEntries): Promise<void> {
    this.#requireWhole();
    for (const [name, { shape }] of this.#buffers) {
      if (entries) requireEntries(name, shape, entries.first, entries.count);
    }
    for (const [name, { shape }] of this.#made) requireEntries(name, shape, 0, extent, axis);
    const resized = [...this.#buffers].map(
      ([name, { dtype, shape }]) => [name, { dtype, shape: shape.with(axis, extent) }] as const,
    );
    this.#buffers = new Map(resized); // runs that are asked for from now on come after it
    await this.#worker.send({ kind: 'resize-state', state: this.id, axis, extent, entries });
  }

  /** What crosses threads is whole buffers. */
  #requireWhole(): void {
    this.requireOpen();
    if (this.entries) {
      throw new DetailFlowError('invalid-argument', 'this is a window of a state: ask the whole state');
    }
  }

  async read(name: string): Promise<Tensor> {
    this.#requireWhole();
    this.#kind(name);
    const { value } = await this.#worker.send({ kind: 'read-state', state: this.id, name });
    return toTensor(value);
  }

  async write(name: string, tensor: Tensor): Promise<void> {
    this.#requireWhole();
    const { dtype, shape } = this.#kind(name);
    requireLike(name, tensor, dtype, shape);
    await this.#worker.send({ kind: 'write-state', state: this.id, name, tensor: fromTensor(tensor) });
  }

  #kind(name: string): BufferKind {
    this.requireOpen();
    const kind = this.buffers.get(name);
    if (!kind) throw new DetailFlowError('invalid-argument', `there is no state "${name}"`);
    return kind;
  }

  /** Frees what it holds on the device. */
  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    if (!this.entries) await this.#worker.free({ kind: 'drop-state', state: this.id });
  }
}

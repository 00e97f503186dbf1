import type { Executable } from './backend';
import { DetailFlowError } from './errors';

/** A graph that is compiled when it is first needed, and again after a failure. For models. */
export class LazyExecutable {
  readonly #compile: () => Promise<Executable>;
  #pending: Promise<Executable> | undefined;
  #disposed = false;

  constructor(compile: () => Promise<Executable>) {
    this.#compile = compile;
  }

  /** @throws DetailFlowError `closed` after {@link dispose}, and whatever compiling throws */
  async get(): Promise<Executable> {
    if (this.#disposed) throw new DetailFlowError('closed', 'the model is disposed');
    const pending = this.#pending ?? this.#compile();
    this.#pending = pending;
    try {
      return await pending;
    } catch (error) {
      if (this.#pending === pending) this.#pending = undefined;
      throw error;
    }
  }

  /** Frees what it holds on the device. */
  async dispose(): Promise<void> {
    this.#disposed = true;
    const pending = this.#pending;
    this.#pending = undefined;
    await pending?.then(
      (executable) => executable.dispose(),
      () => {}, // what could not be compiled was reported where it was needed
    );
  }
}

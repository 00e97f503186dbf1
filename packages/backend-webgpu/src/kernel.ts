import type { TfjsProgram } from './tfjs';

/** A compute shader over flat arrays. */
export interface KernelSource {
  /** Names of the input arrays, in WGSL. */
  readonly inputs: readonly string[];
  /** Numbers that are given at every run: `name : i32` or `name : f32`; read as `uniforms.name`. */
  readonly uniforms: readonly string[];
  /**
   * Functions, workgroup variables and `fn main(index: i32)`, which is called for every thread. It reads the inputs,
   * `uniforms` and writes `result`.
   */
  readonly code: string;
  /** Threads of a workgroup; default 64. */
  readonly threads?: number;
}

export const THREADS = 64;

/** A compute shader in the form that tfjs runs. Pipelines are kept by their code. */
export class Kernel {
  readonly uniforms: readonly string[];
  readonly #source: KernelSource;
  readonly #key: string;

  constructor(source: KernelSource) {
    this.#source = source;
    this.uniforms = source.uniforms;
    this.#key = `${source.uniforms.join()}|${source.code}`;
  }

  program({ size, groups }: { size: number; groups?: number }): TfjsProgram {
    const { inputs, uniforms, code, threads = THREADS } = this.#source;
    return {
      outputShape: [size],
      shaderKey: this.#key,
      dispatchLayout: { x: [0] },
      dispatch: [groups ?? Math.ceil(size / threads), 1, 1],
      variableNames: [...inputs],
      uniforms: uniforms.map((uniform) => `${uniform}, `).join(''),
      workgroupSize: [threads, 1, 1],
      size: true,
      getUserCode: () => code,
    };
  }
}

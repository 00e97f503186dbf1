import { DetailFlowError } from '@detailflow/core';
import type { ElementType } from './element-type';
import { gathering, THREADS } from './kernels/gathering';
import { halfCode, inputArray, wgslTypes } from './kernels/input-array';

/** A compute shader over flat arrays. */
export interface KernelSource {
  /** Names of the input arrays, in WGSL: the element i of X is X(i), whatever X lies in. */
  readonly inputs: readonly string[];
  /** Those of them that are read by fours: X(i) are the elements from 4 i on. Their sizes are multiples of 4. */
  readonly byFours?: readonly string[];
  /** Names of the arrays it writes; default one, `result`. */
  readonly results?: readonly string[];
  /** Numbers that are given at every run: `name : i32` or `name : f32`; read as `uniforms.name`. */
  readonly uniforms: readonly string[];
  /** Whether it adds up or compares over the threads of a workgroup: sumOfAll(lane, x) and largestOfAll(lane, x). */
  readonly gathers?: boolean;
  /**
   * Functions, workgroup variables and `fn main(index: i32)`, which is called for every thread. It reads the inputs,
   * `uniforms`, which also has the `size` of the result, NAN and INFINITY, and writes the results.
   */
  readonly code: string;
}

/** What a device has that kernels use. */
export interface ShaderFeatures {
  /** It knows how threads run together. */
  readonly subgroups: boolean;
  /** It reads halves by itself, every finite one exactly. */
  readonly halves: boolean;
}

/** Numbers that every kernel is given. */
const COMMON = ['NAN : f32', 'INFINITY : f32', 'size : i32'];

/** Arrays that a kernel may bind: what every adapter takes. */
export const MOST_ARRAYS = 8;

/** A compute shader whose arrays have no types yet. */
export class Kernel {
  readonly inputs: number;
  readonly results: number;
  readonly uniforms: readonly string[];
  readonly #source: KernelSource;

  constructor(source: KernelSource) {
    this.#source = source;
    this.inputs = source.inputs.length;
    this.results = source.results?.length ?? 1;
    this.uniforms = source.uniforms;
    if (this.inputs + this.results > MOST_ARRAYS) {
      throw new DetailFlowError(
        'unsupported',
        `a kernel of ${this.inputs + this.results} arrays, of at most ${MOST_ARRAYS}`,
      );
    }
  }

  /**
   * WGSL for arrays of these types: results first, then inputs; the numbers are the last binding.
   */
  wgsl(types: readonly ElementType[], { subgroups, halves }: ShaderFeatures): string {
    const { inputs, byFours = [], results = ['result'], gathers = false, code } = this.#source;
    const isBySubgroups = gathers && subgroups;
    const hasHalves = types.includes('float16');
    const arrays = [
      ...results.map((name, i) => `var<storage, read_write> ${name}: array<${wgslTypes[types[i]]}>;`),
      ...inputs.map((name, i) =>
        inputArray(name, types[results.length + i], { byFours: byFours.includes(name), halves }),
      ),
    ].map((array, i) => `@group(0) @binding(${i}) ${array}`);
    return `${isBySubgroups ? 'enable subgroups;\n' : ''}${hasHalves && halves ? 'enable f16;\n' : ''}struct Uniforms { ${[...COMMON, ...this.uniforms].join(', ')} };
${arrays.join('\n')}
@group(0) @binding(${arrays.length}) var<uniform> uniforms: Uniforms;
${hasHalves && !halves ? halfCode : ''}
${gathers ? gathering(subgroups) : ''}
${code}
@compute @workgroup_size(${THREADS}, 1, 1)
fn start(
  @builtin(local_invocation_index) lane: u32,
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  ${isBySubgroups ? '@builtin(subgroup_size) together: u32,' : ''}
) {
  ${isBySubgroups ? 'findBlock(i32(lane), i32(together));' : ''}
  main(i32((group.y * groups.x + group.x) * ${THREADS}u + lane));
}
`;
  }

  /** The numbers of a run as they lie in the uniform buffer. */
  words(size: number, numbers: readonly number[]): Int32Array {
    const names = [...COMMON, ...this.uniforms];
    const words = new Int32Array(names.length);
    const floats = new Float32Array(words.buffer);
    for (const [i, number] of [Number.NaN, Number.POSITIVE_INFINITY, size, ...numbers].entries()) {
      (names[i].endsWith('f32') ? floats : words)[i] = number;
    }
    return words;
  }
}

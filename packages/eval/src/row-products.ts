import { type Backend, type Executable, matmul, symbol, Tensor, trace } from '@detailflow/core';

type FloatArray = Float32Array | Float64Array;

/** Scalar products of rows, on a backend, in float32. */
export class RowProducts {
  readonly #executable: Executable;
  readonly #width: number;

  private constructor(executable: Executable, width: number) {
    this.#executable = executable;
    this.#width = width;
  }

  /** @param width values of a row */
  static async create(backend: Backend, width: number): Promise<RowProducts> {
    const graph = trace((g) => ({
      products: matmul(g.input('x', 'f32', [symbol('n'), width]), g.input('y', 'f32', [symbol('m'), width]), {
        transposeB: true,
      }),
    }));
    return new RowProducts(await backend.compile(graph, new Map()), width);
  }

  /** Every row of x [n, width] with every row of y [m, width]: [n, m]. */
  async of(x: FloatArray, y: FloatArray, options: { signal?: AbortSignal } = {}): Promise<Float32Array> {
    const rows = (data: FloatArray) => {
      const rounded = data instanceof Float32Array ? data : new Float32Array(data);
      return new Tensor('float32', rounded, [data.length / this.#width, this.#width]);
    };
    const { products } = await this.#executable.run({ x: rows(x), y: rows(y) }, options);
    return products.data as Float32Array;
  }

  /** Frees what it holds on the device. */
  dispose(): Promise<void> {
    return this.#executable.dispose();
  }
}

/** The same in float64, on this thread. */
export function exactProducts(width: number) {
  return {
    async of(x: FloatArray, y: FloatArray): Promise<Float64Array> {
      const [rows, columns] = [x.length / width, y.length / width];
      const out = new Float64Array(rows * columns);
      for (let i = 0; i < rows; i++) {
        for (let j = 0; j < columns; j++) {
          let sum = 0;
          for (let k = 0; k < width; k++) sum += x[i * width + k] * y[j * width + k];
          out[i * columns + j] = sum;
        }
      }
      return out;
    },
    async dispose() {},
  };
}

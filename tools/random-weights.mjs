// Weights with random values for benchmarks.

/** Normal draws, used over and over from shifting places: random enough for timing, and quick. */
const block = new Float32Array((1 << 20) + 9973);
let state = 1;
for (let i = 0; i < block.length; i++) {
  let sum = 0;
  for (let k = 0; k < 12; k++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    sum += state / 2 ** 32;
  }
  block[i] = sum - 6;
}

let tensors = 0;

/** A weight with random values, made anew whenever it is read: models of gigabytes take no memory. */
export function randomWeight(name, shape) {
  const isNorm = /(norm|norm_out|norm\d|layernorm)\.weight$/.test(name);
  const isBias = name.endsWith('.bias');
  const deviation = shape.length > 1 ? Math.min(0.5, 1 / Math.sqrt(shape[shape.length - 1])) : 0.02;
  // No two tensors may be alike: a runtime may keep equal ones only once, which would flatter every figure.
  const sign = tensors % 2 === 0 ? 1 : -1;
  const spread = deviation * (1 + tensors++ / 4096);
  const size = 1 << 20;
  return {
    name,
    dtype: 'f32',
    shape,
    async read() {
      const values = new Float32Array(shape.reduce((a, b) => a * b, 1));
      for (let at = 0; at < values.length; at++) {
        const shift = Math.floor((at - (at % size)) / 4096) % 9973;
        const draw = sign * block[(at % size) + shift];
        values[at] = isNorm ? 1 + 0.05 * draw : isBias ? 0.02 * draw : spread * draw;
      }
      return new Uint8Array(values.buffer);
    },
  };
}

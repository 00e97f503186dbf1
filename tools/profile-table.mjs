// Reads a profile that ONNX Runtime wrote, and adds it up by operator.

/**
 * What the runs of one profile spent.
 * @param events of the file, in the format of Chrome's trace viewer
 * @param kindOf says of the i-th run of the graph what kind of step it is
 * @param bitsOf bits of a weight of the matrix that a node MatMulNBits reads, by the node's name
 * @returns by kind: runs, milliseconds of a run, those outside all operators, and for each operator what a run of it takes
 */
export function profileTable(events, { kindOf, bitsOf }) {
  const runs = events.filter(({ name }) => name === 'model_run').sort((a, b) => a.ts - b.ts);
  const nodes = events.filter(({ cat, name }) => cat === 'Node' && name.endsWith('_kernel_time'));
  const kinds = new Map();
  for (const [i, { ts, dur }] of runs.entries()) {
    const kind = kindOf(i, runs.length);
    if (kind === undefined) continue;
    const of = kinds.get(kind) ?? { runs: 0, ms: 0, outside: 0, operators: new Map() };
    kinds.set(kind, of);
    let inside = 0;
    for (const node of nodes) {
      if (node.ts < ts || node.ts >= ts + dur) continue;
      const { flops, bytes } = workOf(node, bitsOf);
      const name = node.args.op_name;
      const one = of.operators.get(name) ?? { calls: 0, ms: 0, flops: 0, bytes: 0 };
      of.operators.set(name, one);
      one.calls++;
      one.ms += node.dur / 1000;
      one.flops += flops;
      one.bytes += bytes;
      inside += node.dur;
    }
    of.runs++;
    of.ms += dur / 1000;
    of.outside += (dur - inside) / 1000;
  }
  return [...kinds].map(([kind, { runs: count, ms, outside, operators }]) => ({
    ...{ kind, runs: count, ms: ms / count, outsideMs: outside / count },
    operators: [...operators]
      .map(([name, one]) => {
        const per = Object.fromEntries(Object.entries(one).map(([key, total]) => [key, total / count]));
        return { name, ...per, share: one.ms / ms };
      })
      .sort((a, b) => b.ms - a.ms),
  }));
}

/** Operations of a product, and the bytes that it reads and writes. Matrices that are packed are not among its inputs any more. */
function workOf({ name, args }, bitsOf) {
  const shapes = (list) => list.map((one) => Object.values(one)[0]);
  const [inputs, [output]] = [shapes(args.input_type_shape), shapes(args.output_type_shape)];
  const size = (shape) => shape.reduce((a, b) => a * b, 1);
  const moved = Number(args.activation_size) + Number(args.output_size) + Number(args.parameter_size);
  const kind = args.op_name;
  if (!/MatMul/.test(kind)) return { flops: 0, bytes: moved };
  const matrix = inputs[0].at(-1) * output.at(-1);
  const isPacked = !inputs
    .slice(1)
    .some((shape) => shape.length >= 2 && shape.at(-1) * shape.at(-2) === matrix);
  const bits = kind === 'MatMulNBits' ? bitsOf(name) : /Integer/.test(kind) ? 8 : 32;
  return {
    flops: 2 * size(output) * inputs[0].at(-1),
    bytes: moved + (isPacked ? (matrix * bits) / 8 : 0),
  };
}

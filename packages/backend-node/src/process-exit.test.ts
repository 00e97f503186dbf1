import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';

/** A backend, a graph of 100 matrix products that keeps state, and its input. */
const setUp = `
  import { createNodeBackend } from '@detailflow/backend-node';
  import { add, matmul, Tensor, trace } from '@detailflow/core';
  const side = 256;
  const graph = trace((g) => {
    let x = g.input('x', 'f32', [side, side]);
    const total = g.state('total', [side, side]);
    g.update('total', add(total, x));
    for (let i = 0; i < 100; i++) x = matmul(x, x);
    return { y: x };
  });
  const x = new Tensor('float32', new Float32Array(side * side).fill(1 / side), [side, side]);
  const backend = await createNodeBackend({ threads: 2 });
`;
const use = `
  const executable = await backend.compile(graph, new Map());
  const state = await executable.createState({});
  const run = () => executable.run({ x }, { state });
  const { y } = await run();
  console.log(y.data[0] * side);
  const report = (error) => console.log(error.code);
`;

/** Runs a program and returns the lines it printed; rejects if it fails or does not end by itself. */
async function program(source: string): Promise<string[]> {
  const { stdout, stderr } = await promisify(execFile)(
    process.execPath,
    ['--input-type=module', '--eval', source],
    { cwd: fileURLToPath(new URL('../../..', import.meta.url)), timeout: 300_000, killSignal: 'SIGKILL' },
  );
  expect(stderr).toBe('');
  return stdout.trim().split('\n');
}

test.each([
  ['closes its backend', `${use} await backend.close();`, ['1']],
  ['disposes of its backend', `${use} await backend[Symbol.asyncDispose]();`, ['1']],
  ['forgets to close', use, ['1']],
  ['never uses its backend', '', ['']],
  ['closes while a run is under way', `${use} run().catch(report); await backend.close();`, ['1', 'closed']],
  ['stops in the middle of a run', `${use} run(); setTimeout(() => process.exit(0), 3);`, ['1']],
  ['stops before its backend has started', 'process.exit(0);', ['']],
  ['does not wait for its last run', `${use} run().then(() => console.log('done'));`, ['1', 'done']],
  [
    'could not send a tensor',
    `${use} structuredClone(x.data, { transfer: [x.data.buffer] }); await run().catch(report);`,
    ['1', 'invalid-argument'],
  ],
])('a program that %s ends by itself with code 0', async (_, rest, output) => {
  expect(await program(setUp + rest)).toEqual(output);
});

import type { Backend } from '../backend';
import { DetailFlowError } from '../errors';
import { trace } from '../graph';
import { add, mul } from '../ops/elementwise';
import { Tensor } from '../tensor';

const vector = (...values: number[]) => new Tensor('float32', Float32Array.from(values), [values.length]);

/**
 * Runs two graphs on one state of the backend, as training does: one accumulates and reads a buffer that it leaves
 * alone, the other spends what was accumulated.
 * @throws DetailFlowError `runtime` naming the buffer or output that is wrong, or the wrong use that is not refused
 */
export async function checkSharedState(backend: Backend): Promise<void> {
  const accumulate = await backend.compile(
    trace((g) => {
      const [weight, total] = [g.state('weight', [2]), g.state('total', [2])];
      const product = mul(weight, g.input('x', 'f32', [2]));
      g.update('total', add(total, product));
      return { product };
    }),
    new Map(),
  );
  const spend = await backend.compile(
    trace((g) => {
      const [weight, total] = [g.state('weight', [2]), g.state('total', [2])];
      g.update('weight', add(weight, total));
      g.update('total', mul(total, 0));
      return {};
    }),
    new Map(),
  );
  const given = vector(1, 10);
  const state = await backend.createState({ weight: given, total: vector(0, 0), unused: vector(7) });
  (given.data as Float32Array)[0] = 99; // the state has a copy

  const { product } = await accumulate.run({ x: vector(2, 3) }, { state });
  expectValues('product', product, [2, 30]);
  await accumulate.run({ x: vector(1, 1) }, { state });
  expectValues('weight', await state.read('weight'), [1, 10]);
  expectValues('total', await state.read('total'), [3, 40]);
  await spend.run({}, { state });
  expectValues('weight', await state.read('weight'), [4, 50]);
  expectValues('total', await state.read('total'), [0, 0]);
  const written = vector(-1, 1);
  await state.write('weight', written);
  (written.data as Float32Array)[0] = 99;
  await accumulate.run({ x: vector(5, 5) }, { state });
  expectValues('total', await state.read('total'), [-5, 5]);
  expectValues('unused', await state.read('unused'), [7]);

  await expectRefusal('shape', 'a tensor of another shape', () => state.write('weight', vector(1)));
  await expectRefusal('invalid-argument', 'an unknown buffer', () => state.write('weights', vector(1, 1)));
  const small = await backend.createState({ weight: vector(1), total: vector(0, 0) });
  await expectRefusal('shape', 'a small buffer', () => spend.run({}, { state: small }));
  const lacking = await backend.createState({ weight: vector(1, 2) });
  await expectRefusal('invalid-argument', 'a state that lacks a buffer', () =>
    spend.run({}, { state: lacking }),
  );
  for (const made of [state, small, lacking]) await made.dispose();
  await expectRefusal('closed', 'a disposed state', () => spend.run({}, { state }));
  for (const executable of [accumulate, spend]) await executable.dispose();
}

function expectValues(what: string, { data }: Tensor, expected: readonly number[]): void {
  const found = Array.from(data as Float32Array);
  if (found.join() !== expected.join()) {
    throw new DetailFlowError('runtime', `shared state: ${what} is [${found}], must be [${expected}]`);
  }
}

async function expectRefusal(code: string, what: string, use: () => Promise<unknown>): Promise<void> {
  const found = await use().then(
    () => 'no error',
    (error) => (DetailFlowError.isInstance(error) ? error.code : String(error)),
  );
  if (found !== code) {
    throw new DetailFlowError('runtime', `shared state: ${what} gives ${found}, must give "${code}"`);
  }
}

import type { Backend } from '../backend';
import { DetailFlowError } from '../errors';
import { trace } from '../graph';
import { createReferenceBackend } from '../reference-backend';
import type { Tensor } from '../tensor';
import { weightFromArray } from '../weights';
import type { ConformanceCase } from './conformance-case';

/**
 * Runs a case on a backend and on the reference backend and compares every output of every run, and the states
 * after the last: integers must be equal, floats within `tolerance` * max(1, largest reference value).
 * @throws DetailFlowError `runtime` naming the first output that differs
 */
export async function checkConformance(
  backend: Backend,
  one: ConformanceCase,
  tolerance = 1e-5,
): Promise<void> {
  const reference = createReferenceBackend();
  const [actual, expected] = await Promise.all([results(backend, one), results(reference, one)]);
  await reference.close();
  for (const [name, tensor] of expected) compare(`${one.name}: ${name}`, actual.get(name), tensor, tolerance);
}

async function results(backend: Backend, one: ConformanceCase): Promise<Map<string, Tensor>> {
  const weights = Object.entries(one.weights ?? {}).map(
    ([name, { dims, data }]) => [name, weightFromArray(name, dims, data as Float32Array)] as const,
  );
  const executable = await backend.compile(trace(one.build), new Map(weights));
  const state = one.stateDims && (await executable.createState(one.stateDims));
  const found = new Map<string, Tensor>();
  for (const [run, feeds] of one.runs.entries()) {
    for (const [name, tensor] of Object.entries(await executable.run(feeds, { state })))
      found.set(`${name}, run ${run}`, tensor);
  }
  for (const name of one.states ?? []) {
    if (state) found.set(`state ${name}`, await state.read(name));
  }
  await state?.dispose();
  await executable.dispose();
  return found;
}

function compare(what: string, actual: Tensor | undefined, expected: Tensor, tolerance: number): void {
  const fail = (message: string) => {
    throw new DetailFlowError('runtime', `${what}: ${message}`);
  };
  if (!actual || actual.type !== expected.type || actual.dims.join() !== expected.dims.join()) {
    fail(`is ${actual?.type} [${actual?.dims}], must be ${expected.type} [${expected.dims}]`);
  }
  const [found, wanted] = [actual, expected].map((tensor) =>
    Array.from(tensor?.data as Float32Array, Number),
  );
  const finite = wanted.filter(Number.isFinite).map(Math.abs);
  const limit = expected.type === 'float32' ? tolerance * finite.reduce((a, b) => Math.max(a, b), 1) : 0;
  for (const [i, value] of wanted.entries()) {
    const same = Object.is(found[i], value) || found[i] === value || Math.abs(found[i] - value) <= limit;
    if (!same) fail(`element ${i} is ${found[i]}, must be ${value}`);
  }
}

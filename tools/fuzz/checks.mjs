// What must hold when hostile files are read, and the ways to hand them over.
import { createTokenModel } from '@detailflow/ar-model';
import { fileTree } from '@detailflow/checkpoint';
import { openFile, openFolder } from '@detailflow/checkpoint/node';
import { bytesSource, readFloat32, storageBytes } from '@detailflow/core';
import { createTokenizer } from '@detailflow/tokenizer';
import { openModel } from 'detailflow';

/** A property that does not hold; not one of the errors a reader may throw. */
export class Violation extends Error {}

export function check(holds, what) {
  if (!holds) throw new Violation(what);
}

export const countOf = (shape) => shape.reduce((a, b) => a * b, 1);

export const bytesOf = (weights) =>
  [...weights.values()].reduce((sum, { dtype, shape }) => sum + countOf(shape) * storageBytes[dtype], 0);

const mostRead = 64 * 2 ** 20;

/** Every tensor gives exactly the bytes that its dtype and shape declare. */
export async function readAll(weights, { fills } = {}) {
  let total = 0;
  for (const [name, weight] of weights) {
    check(weight.name === name, `the weight ${name} calls itself ${weight.name}`);
    const count = countOf(weight.shape);
    check(Number.isSafeInteger(count) && count >= 0, `shape [${weight.shape}]`);
    const bytes = count * storageBytes[weight.dtype];
    const { location } = weight;
    if (location) check(location.length === bytes, `location of ${location.length} bytes, not ${bytes}`);
    total += bytes;
    if (total > mostRead) return;
    const read = await weight.read();
    check(read.length === bytes, `${read.length} bytes read, ${bytes} declared`);
    if (fills)
      check(
        bytes === 0 || (fills.includes(read[0]) && read.every((byte) => byte === read[0])),
        'bytes of others',
      );
    if (bytes < 10_000) check((await readFloat32(weight)).length === count, 'number of floats');
  }
}

/** A model that opens can also be set up: nothing of it fails later for reasons its files give. */
function setUp({ tokenizer, ar }) {
  const refuse = () => {
    throw new Violation('nothing was to be computed');
  };
  const backend = { name: 'none', compile: refuse, close: refuse };
  const vq = createTokenizer({ ...tokenizer, backend });
  for (let n = 1; n <= Math.min(vq.tokens, 100); n++) {
    const size = vq.resolution(n);
    check(size >= 1 && size < 2 ** 21, `resolution ${size} of ${n} tokens`);
  }
  if (ar) createTokenModel({ ...ar, backend });
}

export async function withModel(source) {
  const model = await openModel(source);
  try {
    setUp(model);
    await readAll(model.tokenizer.weights);
    if (model.ar) await readAll(model.ar.weights);
  } finally {
    await model.close();
  }
}

/** Files in memory, or now and then on disk. */
export async function asTree({ files, onDisk }, save) {
  if (onDisk) return openFolder(await save(files));
  return fileTree(
    'memory',
    new Map(Object.entries(files).map(([name, bytes]) => [name, bytesSource(bytes, `memory/${name}`)])),
  );
}

export const one = (files) => Object.entries(files)[0];

export async function asSource({ files, onDisk }, save) {
  const [name, bytes] = one(files);
  return onDisk ? openFile(`${await save(files)}/${name}`) : bytesSource(bytes, name);
}

import { Kernel, THREADS } from '../kernel';
import { gathering } from './rows';

/** Where the keys and values of an attention lie. */
interface Sources {
  readonly inputs: readonly string[];
  readonly uniforms: readonly string[];
  /** WGSL of the key, value and bias numbered \`j\`: uses head, and b, h and r. */
  readonly read: string;
}

const plain = (hasBias: boolean): Sources => ({
  inputs: ['Q', 'K', 'V', ...(hasBias ? ['bias'] : [])],
  uniforms: hasBias ? ['heads : i32', 'bb : i32', 'bh : i32', 'br : i32', 'bl : i32'] : [],
  read: `
fn keyAt(head: i32, j: i32, d: i32) -> f32 { return K[(head * uniforms.keys + j) * uniforms.width + d]; }
fn valueAt(head: i32, j: i32, d: i32) -> f32 { return V[(head * uniforms.keys + j) * uniforms.width + d]; }
fn biasAt(head: i32, r: i32, j: i32) -> f32 { return ${
    hasBias
      ? 'bias[(head / uniforms.heads) * uniforms.bb + (head % uniforms.heads) * uniforms.bh + r * uniforms.br + j * uniforms.bl]'
      : '0.0'
  }; }`,
});

const cached = (hasFreshBias: boolean): Sources => ({
  inputs: ['Q', 'K', 'V', 'pastK', 'pastV', 'pastBias', ...(hasFreshBias ? ['freshBias'] : [])],
  uniforms: ['past : i32'],
  read: `
fn keyAt(head: i32, j: i32, d: i32) -> f32 {
  if (j < uniforms.past) { return pastK[(head * uniforms.past + j) * uniforms.width + d]; }
  return K[(head * (uniforms.keys - uniforms.past) + j - uniforms.past) * uniforms.width + d];
}
fn valueAt(head: i32, j: i32, d: i32) -> f32 {
  if (j < uniforms.past) { return pastV[(head * uniforms.past + j) * uniforms.width + d]; }
  return V[(head * (uniforms.keys - uniforms.past) + j - uniforms.past) * uniforms.width + d];
}
fn biasAt(head: i32, r: i32, j: i32) -> f32 {
  if (j < uniforms.past) { return pastBias[j]; }
  return ${hasFreshBias ? 'freshBias[j - uniforms.past]' : '0.0'};
}`,
});

/**
 * softmax(q k^T scale + bias) v without a matrix of scores: a workgroup for each query goes through the keys in tiles,
 * and keeps maximum, sum and weighted values as it goes.
 */
function kernelOf({ inputs, uniforms, read }: Sources, slots: number): Kernel {
  return new Kernel({
    inputs,
    uniforms: ['queries : i32', 'rows : i32', 'keys : i32', 'width : i32', 'scale : f32', ...uniforms],
    code: `${gathering}
var<workgroup> query: array<f32, ${slots * THREADS}>;
var<workgroup> weights: array<f32, ${THREADS}>;
${read}
fn main(index: i32) {
  let lane = index % ${THREADS};
  let item = min(index / ${THREADS}, uniforms.queries - 1);
  let isItem = index / ${THREADS} < uniforms.queries;
  let head = item / uniforms.rows;
  let r = item % uniforms.rows;
  for (var d = lane; d < uniforms.width; d = d + ${THREADS}) { query[d] = Q[item * uniforms.width + d] * uniforms.scale; }
  workgroupBarrier();
  var top = -3.4e38;
  var total = 0.0;
  var found: array<f32, ${slots}>;
  for (var start = 0; start < uniforms.keys; start = start + ${THREADS}) {
    let j = start + lane;
    var score = -3.4e38;
    if (j < uniforms.keys) {
      var product = 0.0;
      for (var d = 0; d < uniforms.width; d = d + 1) { product = product + query[d] * keyAt(head, j, d); }
      score = product + biasAt(head, r, j);
    }
    let next = max(top, largestOfAll(lane, score));
    let weight = select(0.0, exp(score - next), j < uniforms.keys);
    weights[lane] = weight;
    let tile = sumOfAll(lane, weight);
    let shrink = exp(top - next);
    total = total * shrink + tile;
    let count = min(${THREADS}, uniforms.keys - start);
    for (var slot = 0; slot < ${slots}; slot = slot + 1) {
      let d = slot * ${THREADS} + lane;
      var sum = found[slot] * shrink;
      if (d < uniforms.width) {
        for (var k = 0; k < count; k = k + 1) { sum = sum + weights[k] * valueAt(head, start + k, d); }
      }
      found[slot] = sum;
    }
    top = next;
    workgroupBarrier();
  }
  for (var slot = 0; slot < ${slots}; slot = slot + 1) {
    let d = slot * ${THREADS} + lane;
    if (isItem && d < uniforms.width) { result[item * uniforms.width + d] = found[slot] / total; }
  }
}`,
  });
}

/** Heads of up to this many numbers. */
const slotsFor = (width: number) => Math.max(1, Math.ceil(width / THREADS));

export const attentionKernel = (width: number, hasBias: boolean): Kernel =>
  kernelOf(plain(hasBias), slotsFor(width));

export const cachedAttentionKernel = (width: number, hasFreshBias: boolean): Kernel =>
  kernelOf(cached(hasFreshBias), slotsFor(width));

/** Rotates the pairs (2i, 2i+1) of x [B, L, H, D] by tables [L, D/2]. */
export const ropeKernel = new Kernel({
  inputs: ['X', 'cosines', 'sines'],
  uniforms: ['length : i32', 'heads : i32', 'width : i32'],
  code: `fn main(index: i32) {
  if (index >= uniforms.size) { return; }
  let d = index % uniforms.width;
  let l = (index / (uniforms.width * uniforms.heads)) % uniforms.length;
  let at = l * (uniforms.width / 2) + d / 2;
  let isOdd = d % 2 == 1;
  let other = X[select(index + 1, index - 1, isOdd)];
  result[index] = X[index] * cosines[at] + select(-other, other, isOdd) * sines[at];
}`,
});

import { Kernel } from '../kernel';
import { THREADS } from './gathering';

/** Where the keys and values of an attention lie. */
interface Sources {
  readonly inputs: readonly string[];
  readonly uniforms: readonly string[];
  /** WGSL of the key, value and bias numbered \`j\`: uses head, and b, h and r. */
  readonly read: string;
}

/** Queries, keys and values may lie anyhow: offset, and strides of picture, head, row and number. */
const strided = (name: string) => ['o', 'b', 'h', 'r', 'd'].map((axis) => `${name}${axis} : i32`);
const at = (name: string, head: string, row: string) =>
  `uniforms.${name}o + (${head} / uniforms.heads) * uniforms.${name}b + (${head} % uniforms.heads) * uniforms.${name}h + ${row} * uniforms.${name}r + d * uniforms.${name}d`;
const fresh = (name: string, row: string) => at(name, 'head', row);

const plain = (hasBias: boolean): Sources => ({
  inputs: ['Q', 'K', 'V', ...(hasBias ? ['bias'] : [])],
  uniforms: hasBias ? ['bb : i32', 'bh : i32', 'br : i32', 'bl : i32'] : [],
  read: `
fn keyAt(head: i32, j: i32, d: i32) -> f32 { return K(${fresh('k', 'j')}); }
fn valueAt(head: i32, j: i32, d: i32) -> f32 { return V(${fresh('v', 'j')}); }
fn biasAt(head: i32, r: i32, j: i32) -> f32 { return ${
    hasBias
      ? 'bias((head / uniforms.heads) * uniforms.bb + (head % uniforms.heads) * uniforms.bh + r * uniforms.br + j * uniforms.bl)'
      : '0.0'
  }; }`,
});

const cached = (hasFreshBias: boolean): Sources => ({
  inputs: ['Q', 'K', 'V', 'pastK', 'pastV', 'pastBias', ...(hasFreshBias ? ['freshBias'] : [])],
  uniforms: ['past : i32'],
  read: `
fn keyAt(head: i32, j: i32, d: i32) -> f32 {
  if (j < uniforms.past) { return pastK((head * uniforms.past + j) * uniforms.width + d); }
  return K(${fresh('k', '(j - uniforms.past)')});
}
fn valueAt(head: i32, j: i32, d: i32) -> f32 {
  if (j < uniforms.past) { return pastV((head * uniforms.past + j) * uniforms.width + d); }
  return V(${fresh('v', '(j - uniforms.past)')});
}
fn biasAt(head: i32, r: i32, j: i32) -> f32 {
  if (j < uniforms.past) { return pastBias(j); }
  return ${hasFreshBias ? 'freshBias(j - uniforms.past)' : '0.0'};
}`,
});

/**
 * softmax(q k^T scale + bias) v without a matrix of scores: a workgroup for each query goes through the keys in tiles,
 * and keeps maximum, sum and weighted values as it goes.
 */
function kernelOf({ inputs, uniforms, read }: Sources, slots: number): Kernel {
  return new Kernel({
    inputs,
    uniforms: [
      ...['queries : i32', 'rows : i32', 'keys : i32', 'width : i32', 'scale : f32', 'heads : i32'],
      ...['q', 'k', 'v'].flatMap(strided),
      ...['yb : i32', 'yh : i32', 'yr : i32'],
      ...uniforms,
    ],
    gathers: true,
    code: `
var<workgroup> query: array<f32, ${slots * THREADS}>;
var<workgroup> weights: array<f32, ${THREADS}>;
${read}
fn main(index: i32) {
  let lane = index % ${THREADS};
  let item = min(index / ${THREADS}, uniforms.queries - 1);
  let isItem = index / ${THREADS} < uniforms.queries;
  let head = item / uniforms.rows;
  let r = item % uniforms.rows;
  for (var d = lane; d < uniforms.width; d = d + ${THREADS}) { query[d] = Q(${at('q', 'head', 'r')}) * uniforms.scale; }
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
    if (isItem && d < uniforms.width) {
      result[(head / uniforms.heads) * uniforms.yb + (head % uniforms.heads) * uniforms.yh + r * uniforms.yr + d] = found[slot] / total;
    }
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

/** Rotates the pairs (2i, 2i+1) of x [B, L, H, D], which may lie anyhow, by tables [L, D/2]. */
export const ropeKernel = new Kernel({
  inputs: ['X', 'cosines', 'sines'],
  uniforms: [
    'length : i32',
    'heads : i32',
    'width : i32',
    ...['o', 'b', 'l', 'h', 'd'].map((axis) => `x${axis} : i32`),
  ],
  code: `fn main(index: i32) {
  if (index >= uniforms.size) { return; }
  let d = index % uniforms.width;
  let h = (index / uniforms.width) % uniforms.heads;
  let l = (index / (uniforms.width * uniforms.heads)) % uniforms.length;
  let b = index / (uniforms.width * uniforms.heads * uniforms.length);
  let place = uniforms.xo + b * uniforms.xb + l * uniforms.xl + h * uniforms.xh + d * uniforms.xd;
  let at = l * (uniforms.width / 2) + d / 2;
  let isOdd = d % 2 == 1;
  let other = X(place + select(uniforms.xd, -uniforms.xd, isOdd));
  result[index] = X(place) * cosines(at) + select(-other, other, isOdd) * sines(at);
}`,
});

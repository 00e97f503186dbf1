/** Threads of a workgroup. */
export const THREADS = 64;

/** WGSL of a sum and a maximum over the threads of a workgroup, the same for all of them. */
export const gathering = (hasSubgroups: boolean): string => `
var<workgroup> gathered: array<f32, ${THREADS}>;
${hasSubgroups ? bySubgroups : byHalves('sumOfAll', (x, y) => `${x} + ${y}`) + byHalves('largestOfAll', (x, y) => `max(${x}, ${y})`)}`;

const byHalves = (name: string, join: (x: string, y: string) => string) => `
fn ${name}(lane: i32, x: f32) -> f32 {
  gathered[lane] = x;
  workgroupBarrier();
  for (var reach = ${THREADS / 2}; reach > 0; reach = reach / 2) {
    if (lane < reach) { gathered[lane] = ${join('gathered[lane]', 'gathered[lane + reach]')}; }
    workgroupBarrier();
  }
  let found = gathered[0];
  workgroupBarrier();
  return found;
}`;

/**
 * Nothing says which threads run together, so each workgroup finds out: \`blocks[i]\` is how many threads from i on are one
 * subgroup, or 1 where threads of a block do not run together, which are then taken one by one.
 */
const joinSubgroups = (name: string, whole: string, join: (x: string, y: string) => string) => `
fn ${name}(lane: i32, x: f32) -> f32 {
  let whole = ${whole}(x);
  gathered[lane] = select(x, whole, isBlock);
  workgroupBarrier();
  var found = gathered[0];
  for (var i = blocks[0]; i < ${THREADS}; i = i + blocks[i]) { found = ${join('found', 'gathered[i]')}; }
  workgroupBarrier();
  return found;
}`;

const bySubgroups = `
var<workgroup> blocks: array<i32, ${THREADS}>;
var<private> isBlock: bool;
fn findBlock(lane: i32, together: i32) {
  let size = min(together, ${THREADS});
  let first = subgroupMin(lane);
  let last = subgroupMax(lane);
  let count = subgroupAdd(1);
  isBlock = first % size == 0 && last == first + size - 1 && count == size;
  blocks[lane] = select(1, size, isBlock);
}
${joinSubgroups('sumOfAll', 'subgroupAdd', (x, y) => `${x} + ${y}`)}
${joinSubgroups('largestOfAll', 'subgroupMax', (x, y) => `max(${x}, ${y})`)}`;

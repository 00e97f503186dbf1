/**
 * Numbers of some images that are of as many classes as can be: one of every class, then a second one of every class, and
 * so on; the classes in an order whose beginnings are spread over all of them.
 * @param labels the classes of all images
 */
export function acrossClasses(labels: Int32Array, count: number): number[] {
  const byClass = new Map<number, number[]>();
  for (const [i, label] of labels.entries()) {
    const known = byClass.get(label);
    if (known) known.push(i);
    else byClass.set(label, [i]);
  }
  const present = [...byClass.keys()].sort((a, b) => a - b);
  const classes = spread(present.length).map((i) => byClass.get(present[i]) as number[]);
  const most = classes.reduce((longest, { length }) => Math.max(longest, length), 0);
  const chosen: number[] = [];
  for (let rank = 0; rank < most && chosen.length < count; rank++) {
    for (const images of classes) if (rank < images.length) chosen.push(images[rank]);
  }
  return chosen.slice(0, count);
}

/** `count` numbers of 0 .. length - 1, all when there are not more, in equal distances: classes keep their shares. */
export function evenlySpaced(length: number, count: number): number[] {
  const chosen = Math.min(length, count);
  return Array.from({ length: chosen }, (_, i) => Math.floor((i * length) / chosen));
}

/** 0 .. count - 1 in an order whose beginnings are spread: steps of about the golden section of the count. */
function spread(count: number): number[] {
  let step = Math.max(1, Math.round(count * 0.618));
  while (divisor(step, count) !== 1) step++;
  return Array.from({ length: count }, (_, i) => (i * step) % count);
}

const divisor = (a: number, b: number): number => (b === 0 ? a : divisor(b, a % b));

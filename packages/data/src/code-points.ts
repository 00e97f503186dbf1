/** By code points, as Python sorts. */
export function byCodePoint(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const [x, y] = [a.charCodeAt(i), b.charCodeAt(i)];
    if (x === y) continue;
    const [isHigh, isOtherHigh] = [(x & 0xf800) === 0xd800, (y & 0xf800) === 0xd800];
    return isHigh === isOtherHigh ? x - y : isHigh ? 1 : -1;
  }
  return a.length - b.length;
}

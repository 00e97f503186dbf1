import { describe, expect, test } from 'vitest';
import { augmentImage } from './augment';
import { colourText, parseColour } from './colour';
import { trainingView } from './views';

const side = 32;
const background = [255, 255, 255] as const;
/** White, with a red square of 8 pixels in the middle. */
const square = () => {
  const data = new Uint8Array(3 * side * side).fill(255);
  for (let y = 12; y < 20; y++) for (let x = 12; x < 20; x++) data.set([200, 20, 40], 3 * (y * side + x));
  return { data, width: side, height: side };
};
const grey = (shade: number) => ({ data: new Uint8Array(3 * 16).fill(shade), width: 4, height: 4 });
const many = Array.from({ length: 40 }, (_, position) => position);
const at = (position: number) => ({ seed: 1, position, background });

/** Where the ink is, and how much. */
function ink({ data, width }: { data: Uint8Array; width: number }) {
  let [sum, x, y] = [0, 0, 0];
  for (let i = 0; i < data.length / 3; i++) {
    const dark = 255 - data[3 * i + 1];
    sum += dark;
    x += dark * (i % width);
    y += dark * Math.floor(i / width);
  }
  return { sum, x: x / sum, y: y / sum };
}

test('nothing asked for changes nothing', () => {
  expect(augmentImage(square(), {}, at(0))).toEqual(square());
});

test('the same seed and position give the same image, others another', () => {
  const how = { shift: 0.1, rotate: 20, hue: 30 };
  const [a, b, c] = [at(3), at(3), at(4)].map((where) => augmentImage(square(), how, where).data);
  expect(a).toEqual(b);
  expect(a).not.toEqual(c);
});

describe('geometry', () => {
  const before = ink(square());

  test('a shift moves the ink within its bounds and keeps it', () => {
    const places = many.map((i) => ink(augmentImage(square(), { shift: 0.2 }, at(i))));
    for (const { sum, x, y } of places) {
      expect(Math.abs(sum / before.sum - 1)).toBeLessThan(0.02);
      expect(Math.abs(x - before.x)).toBeLessThanOrEqual(0.2 * side);
      expect(Math.abs(y - before.y)).toBeLessThanOrEqual(0.2 * side);
    }
    expect(Math.max(...places.map(({ x }) => x)) - Math.min(...places.map(({ x }) => x))).toBeGreaterThan(6);
  });

  test('scale changes the area by its square, in both directions', () => {
    const areas = many.map((i) => ink(augmentImage(square(), { scale: 0.5 }, at(i))).sum / before.sum);
    expect(Math.max(...areas)).toBeLessThanOrEqual(1.5 ** 2 + 0.1);
    expect(Math.min(...areas)).toBeGreaterThanOrEqual(1 / 1.5 ** 2 - 0.1);
    expect(Math.max(...areas)).toBeGreaterThan(1.5);
    expect(Math.min(...areas)).toBeLessThan(0.7);
  });

  test('a turn keeps middle and area, and what comes in is background', () => {
    const full = { data: new Uint8Array(3 * side * side), width: side, height: side };
    for (const i of many.slice(0, 10)) {
      const { sum, x, y } = ink(augmentImage(square(), { rotate: 45 }, at(i)));
      expect(Math.abs(sum / before.sum - 1)).toBeLessThan(0.05);
      expect(Math.hypot(x - before.x, y - before.y)).toBeLessThan(0.2);
      const corner = augmentImage(full, { rotate: 45 }, { ...at(i), background: [1, 2, 3] }).data.subarray(
        0,
        3,
      );
      expect(corner[0] <= 1 && corner[1] <= 2 && corner[2] <= 3).toBe(true);
    }
  });
});

describe('colour', () => {
  const how = { hue: 90, saturation: 1, brightness: 0.5 };

  test('white stays white, and greys stay grey', () => {
    for (const i of many) {
      expect(augmentImage(grey(255), how, at(i))).toEqual(grey(255));
      const [r, g, b] = augmentImage(grey(100), how, at(i)).data;
      expect(Math.max(r, g, b) - Math.min(r, g, b)).toBeLessThanOrEqual(1);
      expect(augmentImage(grey(100), { hue: 90, saturation: 1 }, at(i)).data[0]).toBe(100);
    }
  });

  test('hue turns a colour, and saturation takes it away or doubles it', () => {
    const reds = many.map((i) =>
      augmentImage(square(), { hue: 180 }, at(i)).data.subarray(3 * (16 * side + 16)),
    );
    expect(reds.some(([r, g, b]) => b > r || g > r)).toBe(true);
    const spreads = many.map((i) => {
      const [r, g, b] = augmentImage(square(), { saturation: 1 }, at(i)).data.subarray(3 * (16 * side + 16));
      return Math.max(r, g, b) - Math.min(r, g, b);
    });
    expect(Math.min(...spreads)).toBeLessThan(40);
    expect(Math.max(...spreads)).toBeGreaterThan(200);
  });
});

test('what is out of range is refused by name', () => {
  for (const change of [
    { shift: 0.3 },
    { scale: -1 },
    { rotate: 46 },
    { hue: Number.NaN },
    { brightness: 2 },
  ]) {
    expect(() => augmentImage(square(), change, at(0))).toThrow(Object.keys(change)[0]);
  }
});

test('a training view is augmented, with the background that was asked for', () => {
  const view = { size: side, fit: 'pad', zoom: 1, flip: false, seed: 1, position: 2 } as const;
  const small = { data: new Uint8Array(3 * 16).fill(9), width: 4, height: 4 };
  const padded = trainingView(small, { ...view, background: [10, 20, 30] });
  expect([...padded.data.subarray(0, 3)]).toEqual([10, 20, 30]);
  expect([...trainingView(small, view).data.subarray(0, 3)]).toEqual([0, 0, 0]);
  const moved = trainingView(small, { ...view, augment: { shift: 0.25 } });
  expect(moved.data).not.toEqual(trainingView(small, view).data);
});

test('colours are read and written', () => {
  expect([parseColour('white'), parseColour('black'), parseColour('#0a14FF')]).toEqual([
    [255, 255, 255],
    [0, 0, 0],
    [10, 20, 255],
  ]);
  expect(parseColour(colourText([1, 128, 255]))).toEqual([1, 128, 255]);
  for (const text of ['', 'red', '#fff', '#12345g', '0a14ff'])
    expect(() => parseColour(text)).toThrow(/no colour/);
});

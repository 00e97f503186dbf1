import { describe, expect, test } from 'vitest';
import { MemoryDataset } from './dataset';
import { holdOut } from './hold-out';
import { holdOutRecord, parseHoldOutRecord } from './hold-out-record';
import { subset } from './subset';

/** Images of one pixel; label i has counts[i] of them. */
function images(counts: readonly number[]) {
  const labels = Int32Array.from(counts.flatMap((count, label) => Array(count).fill(label)));
  return new MemoryDataset({
    ...{ name: 'x', labels, pixels: new Uint8Array(labels.length), height: 1, width: 1, channels: 1 },
    classNames: counts.map((_, i) => `class ${i}`),
  });
}
const named = (names: readonly string[], label: (name: string) => number = () => 0) => ({
  ...images([1]),
  name: 'named',
  classNames: ['a', 'b'],
  labels: Int32Array.from(names, label),
  names,
  image: async () => ({ data: new Uint8Array(3), width: 1, height: 1 }),
});

const sets = ['noto', 'twemoji', 'fluent'];
const emoji = (count: number, from = 0) =>
  Array.from({ length: count }, (_, i) => (from + i).toString(16)).flatMap((code) =>
    sets.map((set) => `face/${code}__${set}__x.png`),
  );
const groupOf = (name: string) => name.slice(name.lastIndexOf('/') + 1).split('__')[0];

describe('by group', () => {
  const rule = { share: 0.3, seed: 5, groupBy: '__' };

  test('no group is on both sides, and the share is about what was asked for', () => {
    const { train, heldOut } = holdOut(named(emoji(400)), rule);
    const groups = (part: typeof train) => new Set((part.names as string[]).map(groupOf));
    const [trained, held] = [groups(train), groups(heldOut)];
    expect([...trained].filter((group) => held.has(group))).toEqual([]);
    expect(trained.size + held.size).toBe(400);
    expect(held.size).toBeGreaterThan(90);
    expect(held.size).toBeLessThan(150);
  });

  test('a group stays on its side when others come', () => {
    const held = (count: number) =>
      new Set((holdOut(named(emoji(count)), rule).heldOut.names ?? []).map(groupOf));
    const [few, many] = [held(200), held(300)];
    expect([...many].filter((group) => Number.parseInt(group, 16) < 200)).toEqual([...few]);
  });

  test('images without the separator are groups of their own', () => {
    const { train, heldOut } = holdOut(named(['a/one.png', 'a/two.png', 'b/one.png', 'b/1__2.png']), rule);
    expect(train.labels.length + heldOut.labels.length).toBe(4);
  });

  test('images without names are refused, and one group cannot be divided', () => {
    expect(() => holdOut(images([9]), rule)).toThrow(/no file names.*data\.groupBy/);
    expect(() => holdOut(named(emoji(1)), rule)).toThrow(/3 images in 1 groups are too few/);
  });
});

test('every class keeps something to be trained on', () => {
  for (let seed = 0; seed < 20; seed++) {
    const { train, heldOut } = holdOut(images([1, 1, 2, 40]), { share: 0.9, seed });
    expect(new Set(train.labels)).toEqual(new Set([0, 1, 2, 3]));
    expect(heldOut.labels.length).toBeGreaterThan(20);
    const grouped = named(emoji(30), (name) => (groupOf(name) === '7' ? 1 : 0));
    const parts = holdOut(grouped, { share: 0.9, seed, groupBy: '__' });
    expect([...parts.train.labels].filter((label) => label === 1)).toHaveLength(3);
  }
});

test('the same rule holds the same images out, another seed others', () => {
  const data = images([50, 50]);
  const held = (seed: number) => [...holdOut(data, { share: 0.2, seed }).isHeldOut].join('');
  expect(held(1)).toBe(held(1));
  expect(held(1)).not.toBe(held(2));
});

describe('the record', () => {
  const rule = { share: 0.3, seed: 5, groupBy: '__' };
  const recordOf = (names: readonly string[], over = {}) => {
    const how = { ...rule, ...over };
    return holdOutRecord({ ...holdOut(named(names), how), rule: how });
  };

  test('is the same for the same images, and another for others, other sides and other classes', async () => {
    const names = emoji(20);
    const { digest } = await recordOf(names);
    expect((await recordOf(names)).digest).toBe(digest);
    const others = [
      await recordOf(names.slice(3)),
      await recordOf(names, { seed: 6 }),
      await recordOf(names.with(0, 'face/0__another__x.png')),
      await holdOutRecord({ ...holdOut({ ...named(names), classNames: ['a', 'c'] }, rule), rule }),
    ].map((record) => record.digest);
    expect(new Set([digest, ...others]).size).toBe(5);
  });

  test('survives a file, and a damaged one is refused by entry', async () => {
    const record = await recordOf(emoji(20));
    expect(record).toMatchObject({ rule, images: 60 });
    expect(parseHoldOutRecord(JSON.parse(JSON.stringify(record)), {})).toEqual(record);
    const data = images([4]);
    const test = await holdOutRecord({ train: subset(data, [0, 1]), heldOut: subset(data, [2, 3]) });
    expect(parseHoldOutRecord(test, {})).toEqual(test);
    for (const [change, message] of [
      [{ digest: 'x' }, /data\.heldOut\.digest/],
      [{ heldOut: -1 }, /data\.heldOut\.heldOut/],
      [{ rule: { share: 2, seed: 0 } }, /data\.heldOut\.rule\.share/],
      [{ rule: { share: 0, seed: 0, groupBy: '' } }, /data\.heldOut\.rule\.groupBy/],
    ] as const) {
      expect(() => parseHoldOutRecord({ ...record, ...change }, { entry: 'data.heldOut' })).toThrow(message);
    }
  });
});

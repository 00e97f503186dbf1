import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { zipSync } from 'fflate';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openDataset } from './open-dataset';

const options = { heldOut: 0.25, seed: 3 };
let home: string;
const pictures: Record<string, Uint8Array> = {};

/** Bytes of a header and its file, as POSIX ustar has it, by an own writer. */
function tarMember(name: string, data: Uint8Array, { type = '0', size = data.length } = {}): Uint8Array {
  const header = Buffer.alloc(512);
  header.write(name, 0, 100);
  header.write('0000644\0', 100);
  header.write('0000000\0', 108);
  header.write('0000000\0', 116);
  header.write(`${size.toString(8).padStart(11, '0')}\0`, 124);
  header.write('00000000000\0', 136);
  header.write('        ', 148);
  header.write(type, 156);
  header.write('ustar\u000000', 257, 'latin1');
  const sum = header.reduce((a, b) => a + b, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  const padded = Buffer.alloc(Math.ceil(data.length / 512) * 512);
  padded.set(data);
  return Buffer.concat([header, padded]);
}

const tar = (...members: Uint8Array[]) => Buffer.concat([...members, Buffer.alloc(1024)]);
const text = (value: string) => new TextEncoder().encode(value);

beforeAll(async () => {
  home = await mkdtemp(path.join(tmpdir(), 'archives-'));
  for (let i = 0; i < 8; i++) {
    const colour = { r: 30 * i, g: 10, b: 200 };
    const image = sharp({ create: { width: 4, height: 3, channels: 3, background: colour } });
    pictures[`${i % 2 === 0 ? 'cat' : 'dog'}/${i}.png`] = await image.png().toBuffer();
  }
});
afterAll(() => rm(home, { recursive: true }));

async function expectPictures(source: string): Promise<void> {
  const opened = await openDataset(source, options);
  const whole = opened.whole as NonNullable<typeof opened.whole>;
  expect(whole.classNames).toEqual(['cat', 'dog']);
  expect([...whole.labels]).toEqual([0, 0, 0, 0, 1, 1, 1, 1]);
  const reds = [];
  for (let i = 0; i < 8; i++) reds.push((await whole.image(i)).data[0]);
  expect(reds).toEqual([0, 60, 120, 180, 30, 90, 150, 210]);
  const digest = await whole.digest?.(3);
  expect(digest).toHaveLength(32);
  for (const part of [opened.train, opened.heldOut]) await part.close?.();
}

describe('archives of pictures hold what a folder of them does', () => {
  test('zip, with a folder around and what a Mac leaves', async () => {
    const inside = Object.fromEntries(Object.entries(pictures).map(([name, data]) => [`set/${name}`, data]));
    await writeFile(
      path.join(home, 'set.zip'),
      zipSync({ ...inside, '__MACOSX/set/cat/._0.png': text('x'), 'set/readme.txt': text('hello') }),
    );
    await expectPictures(path.join(home, 'set.zip'));
    const { use } = await openDataset(path.join(home, 'set.zip'), options);
    expect(use.unused).toEqual([
      { reason: 'no image', count: 2, examples: expect.arrayContaining(['set/readme.txt']) },
    ]);
  });

  test('tar of folders, by the tar of the system where there is one, with long names and links', async () => {
    const folder = path.join(home, 'tree');
    for (const [name, data] of Object.entries(pictures)) {
      await mkdir(path.join(folder, path.dirname(name)), { recursive: true });
      await writeFile(path.join(folder, name), data);
    }
    for (const format of ['gnu', 'pax', 'ustar']) {
      const file = path.join(home, `${format}.tar`);
      const entries = [...Object.keys(pictures)];
      execFileSync('tar', ['-C', folder, `--format=${format}`, '-cf', file, ...entries]);
      await expectPictures(file);
    }
    const long = `${'very-'.repeat(30)}long.png`;
    await mkdir(path.join(home, 'long', 'cat'), { recursive: true });
    for (const name of [long, 'zz.png'])
      await writeFile(path.join(home, 'long', 'cat', name), pictures['cat/0.png']);
    for (const format of ['gnu', 'pax']) {
      const file = path.join(home, `long-${format}.tar`);
      execFileSync('tar', ['-C', path.join(home, 'long'), `--format=${format}`, '-cf', file, '.']);
      const { whole } = await openDataset(file, { ...options, heldOut: 0.5 });
      expect(whole?.names?.[0]).toBe(`cat/${long}`);
    }
  });

  test.each([
    ['imagenet1k-train-0000.tar', 'imagenet1k-validation-00.tar'],
    ['train0000.tar', 'val0000.tar'],
    ['shard-0.tar', 'Set_dev.tar'],
  ])('WebDataset: %s and %s are two parts', async (train, test) => {
    const folder = await mkdtemp(path.join(home, 'parts-'));
    const sample = (key: string, i: number) => [
      tarMember(`${key}.png`, pictures[`${i % 2 === 0 ? 'cat' : 'dog'}/${i}.png`]),
      tarMember(`${key}.cls`, text(`${i % 2}`)),
    ];
    await writeFile(path.join(folder, train), tar(...[0, 1, 2, 3].flatMap((i) => sample(`${i}`, i))));
    await writeFile(path.join(folder, test), tar(...[4, 5].flatMap((i) => sample(`${i}`, i))));
    const opened = await openDataset(folder, options);
    expect(opened.whole).toBeUndefined();
    expect([opened.train.labels.length, opened.heldOut.labels.length]).toEqual([4, 2]);
    await Promise.all([opened.train, opened.heldOut].map((part) => part.close?.()));
    // Of validation and test one is held out.
    await writeFile(path.join(folder, 'x-test-0.tar'), tar(...[6, 7].flatMap((i) => sample(`${i}`, i))));
    const three = await openDataset(folder, options);
    expect([three.train.labels.length, three.heldOut.labels.length]).toEqual([4, 2]);
    expect(three.use.unused).toEqual([
      { reason: 'of another part than validation', count: 1, examples: ['x-test-0.tar'] },
    ]);
    await Promise.all([three.train, three.heldOut].map((part) => part.close?.()));
  });

  test('a folder of one .tar file has the parts that its folders are', async () => {
    const folder = await mkdtemp(path.join(home, 'inside-'));
    const members = ['train/cat', 'train/dog', 'val/cat', 'val/dog'].map((name, i) =>
      tarMember(`${name}/${i}.png`, pictures['cat/0.png']),
    );
    await writeFile(path.join(folder, 'set.tar'), tar(...members));
    const { train, heldOut, whole } = await openDataset(folder, options);
    expect([train.labels.length, heldOut.labels.length, whole]).toEqual([2, 2, undefined]);
    for (const part of [train, heldOut]) await part.close?.();
  });

  test('WebDataset: a sample has one image, that of its key alone', async () => {
    const folder = await mkdtemp(path.join(home, 'samples-'));
    const names = ['0.png', '0.depth.png', '1.input.png', '2.png', '3.depth.png', '3.input.png'];
    const members = [
      ...[0, 1, 2, 3].map((i) => tarMember(`v.1/${i}.cls`, text('0'))),
      ...names.map((name) => tarMember(`v.1/${name}`, pictures['cat/0.png'])),
    ];
    await writeFile(path.join(folder, 's-0.tar'), tar(...members));
    const opened = await openDataset(folder, options);
    const { whole } = opened;
    expect(whole?.names).toEqual(['v.1/0.png', 'v.1/1.input.png', 'v.1/2.png']);
    expect(opened.use.unused).toEqual([
      {
        reason: 'one of several images of a sample',
        count: 3,
        examples: ['v.1/0.depth.png', 'v.1/3.depth.png', 'v.1/3.input.png'],
      },
      { reason: 'no image', count: 1, examples: ['v.1/3.cls'] },
    ]);
    await Promise.all([opened.train, opened.heldOut].map((part) => part.close?.()));
  });

  test('WebDataset: classes beside images, in shards of parts, with a sample that says nothing', async () => {
    const samples = Object.entries(pictures).map(([name, data], i) => ({
      name,
      data,
      key: `${i}`.padStart(4, '0'),
    }));
    const shard = (some: typeof samples) =>
      tar(
        ...some.flatMap(({ name, data, key }) => [
          tarMember(`${key}.png`, data),
          key === '0003'
            ? tarMember(`${key}.json`, text(JSON.stringify({ label: 1 })))
            : tarMember(`${key}.cls`, text(name.startsWith('cat') ? '0' : '1\n')),
        ]),
      );
    const folder = path.join(home, 'web');
    await mkdir(folder);
    await writeFile(path.join(folder, 'train-000000.tar'), shard(samples.slice(0, 4)));
    // Keys begin again in the next shard.
    const again = samples.slice(4, 6).map((one, i) => ({ ...one, key: samples[i].key }));
    await writeFile(
      path.join(folder, 'train-000001.tar'),
      tar(tarMember('9.png', pictures['cat/0.png']), shard(again).subarray(0, -1024)),
    );
    await writeFile(path.join(folder, 'val-000000.tar'), shard(samples.slice(6)));
    const { train, heldOut, use } = await openDataset(folder, options);
    expect([train.labels, heldOut.labels].map((labels) => [...labels])).toEqual([
      [0, 0, 0, 1, 1, 1],
      [0, 1],
    ]);
    expect(train.names).toContain('train-000001.tar/0000.png');
    expect(use.unused).toEqual([
      { reason: 'an image without a class beside it', count: 1, examples: ['9.png'] },
    ]);
    for (const part of [train, heldOut]) await part.close?.();
  });

  test('ImageNet as Kaggle packs it: classes of val by its solution, in a folder and in a zip', async () => {
    const base = 'ILSVRC/Data/CLS-LOC';
    const files: Record<string, Uint8Array> = {
      'LOC_val_solution.csv': text('ImageId,PredictionString\nval_1,n02 1 2 3 4 \nval_2,n01 1 2 3 4\n'),
      [`${base}/train/n01/a.png`]: pictures['cat/0.png'],
      [`${base}/train/n02/b.png`]: pictures['dog/1.png'],
      [`${base}/val/val_1.png`]: pictures['cat/2.png'],
      [`${base}/val/val_2.png`]: pictures['dog/3.png'],
      [`${base}/val/val_3.png`]: pictures['dog/3.png'],
    };
    for (const [name, data] of Object.entries(files)) {
      await mkdir(path.join(home, 'imagenet', path.dirname(name)), { recursive: true });
      await writeFile(path.join(home, 'imagenet', name), data);
    }
    await writeFile(path.join(home, 'imagenet.zip'), zipSync(files));
    for (const source of ['imagenet', 'imagenet.zip']) {
      const { train, heldOut, use } = await openDataset(path.join(home, source), options);
      expect(train.classNames).toEqual(['n01', 'n02']);
      expect([...heldOut.labels]).toEqual([0, 1]);
      expect(heldOut.names?.map((name) => path.basename(name))).toEqual(['val_2.png', 'val_1.png']);
      expect(use.unused).toMatchObject([{ reason: 'an image outside the folders of classes', count: 1 }]);
      for (const part of [train, heldOut]) await part.close?.();
    }
  });
});

describe('what is damaged or means harm is refused or counted', () => {
  const write = async (name: string, bytes: Uint8Array) => {
    await writeFile(path.join(home, name), bytes);
    return path.join(home, name);
  };

  test('names that lead out of an archive, links and devices are counted, never followed', async () => {
    const image = pictures['cat/0.png'];
    const file = await write(
      'hostile.tar',
      tar(
        tarMember('cat/0.png', image),
        tarMember('cat/1.png', image),
        tarMember('../../etc/passwd.png', image),
        tarMember('/abs/x.png', image),
        tarMember('C:\\x.png', image),
        tarMember('cat/link.png', new Uint8Array(0), { type: '2' }),
        tarMember('cat/null', new Uint8Array(0), { type: '3' }),
      ),
    );
    const { use } = await openDataset(file, { ...options, heldOut: 0.5 });
    expect(use.images).toBe(2);
    const counts = Object.fromEntries(use.unused.map(({ reason, count }) => [reason, count]));
    expect(counts).toEqual({
      'a name that leads out of the archive': 3,
      'a link to another member': 1,
      'a device': 1,
    });
  });

  test('names in every disguise: those of extended headers, too; what is there twice counts once', async () => {
    const image = pictures['cat/0.png'];
    const pax = (...records: [string, string][]) => {
      const lines = records.map(([key, value]) => {
        const rest = ` ${key}=${value}\n`;
        const size = (length: number): number =>
          `${length}`.length + Buffer.byteLength(rest) === length ? length : size(length + 1);
        return `${size(1)}${rest}`;
      });
      return tarMember('PaxHeader', text(lines.join('')), { type: 'x' });
    };
    const long = (name: string) => tarMember('././@LongLink', text(`${name}\0`), { type: 'L' });
    const plain = tarMember('cat/plain.png', image);
    const file = await write(
      'disguises.tar',
      tar(
        ...['cat/0.png', './cat/1.png', 'cat//2.png', 'cat/./3.png'].map((name) => tarMember(name, image)),
        tarMember('cat/0.png', pictures['dog/1.png']), // as tar -r adds a new version
        ...[pax(['path', '../../up.png']), plain, pax(['path', '/root.png']), plain],
        ...[long(`${'a/'.repeat(60)}../../../../x.png`), plain, long('cat\\..\\x.png'), plain],
        ...[pax(['path', 'cat/bell\u0007.png']), plain, pax(['path', 'cat/\u202Egnp.exe']), plain],
        ...[pax(['path', '.']), plain, tarMember('', image), pax(['path', 'D:x.png']), plain],
        ...[pax(['GNU.sparse.major', '1'], ['GNU.sparse.name', 'cat/holes.png']), plain],
        ...[tarMember('dir', new Uint8Array(0), { type: '2' }), tarMember('dir/4.png', image)],
        ...['1', '2', '4', '6', 'S', 'Z'].map((type) =>
          tarMember(`cat/${type}`, new Uint8Array(0), { type }),
        ),
      ),
    );
    const { whole, use } = await openDataset(file, { ...options, heldOut: 0.5 });
    expect([...(whole?.names ?? [])].sort()).toEqual([
      ...['cat/0.png', 'cat/1.png', 'cat/2.png', 'cat/3.png', 'dir/4.png'],
    ]);
    const newest = await whole?.image(whole.names?.indexOf('cat/0.png') as number);
    expect(newest?.data[0]).toBe(30);
    expect(Object.fromEntries(use.unused.map(({ reason, count }) => [reason, count]))).toEqual({
      'a member that a later one of its name replaces': 1,
      'a name that leads out of the archive': 5,
      'a name that is none': 4,
      'a link to another member': 3,
      'a device': 1,
      'a pipe': 1,
      'a member of a kind that is not read': 3,
    });
  });

  test('a tar that is cut off anywhere but between members is refused, and named', async () => {
    const whole = tar(...Object.entries(pictures).map(([name, data]) => tarMember(name, data)));
    const sizes = [...Array(16).keys()].map((part) => Math.floor((part * (whole.length - 1024)) / 16));
    for (const size of [...sizes.map((one) => one + 100), whole.length - 1024 - 1]) {
      const file = await write(`cut-${size}.tar`, whole.subarray(0, size));
      const found = openDataset(file, { ...options, heldOut: 0.5 });
      await expect(found, `${size}`).rejects.toMatchObject({ code: 'format', file });
    }
  });

  test.each([
    [
      'cut off',
      async () => tar(tarMember('cat/0.png', pictures['cat/0.png'], { size: 9_999_999 })),
      /cut off/,
    ],
    [
      'a flipped header',
      async () => {
        const bytes = tar(tarMember('cat/0.png', pictures['cat/0.png']));
        bytes[3] ^= 1;
        return bytes;
      },
      /no tar archive/,
    ],
    ['no pictures', async () => tar(tarMember('readme', text('x'))), /no images with classes/],
    ['nothing', async () => Buffer.alloc(1024), /holds no files/],
    ['compressed', async () => Buffer.concat([Buffer.of(0x1f, 0x8b), Buffer.alloc(600)]), /compressed/],
  ])('a tar that is %s', async (name, bytes, message) => {
    const file = await write(`${name}.tar`, await bytes());
    await expect(openDataset(file, options)).rejects.toMatchObject({
      code: expect.stringMatching(/format|io/),
      message: expect.stringMatching(message),
    });
  });

  test('a picture that is damaged fails alone', async () => {
    const file = await write(
      'one.tar',
      tar(tarMember('cat/0.png', pictures['cat/0.png']), tarMember('cat/1.png', text('\u0089PNG broken'))),
    );
    const { whole } = await openDataset(file, { ...options, heldOut: 0.5 });
    expect((await whole?.image(0))?.width).toBe(4);
    await expect(whole?.image(1)).rejects.toMatchObject({
      code: 'format',
      file: expect.stringContaining('cat/1.png'),
    });
  });
});

describe('Parquet', () => {
  const fixture = (name: string) =>
    new URL(`../../../tests/fixtures/parquet/${name}`, import.meta.url).pathname;

  test('files as the Hub keeps them: names of classes, groups of rows, parts', async () => {
    const { train, heldOut, use } = await openDataset(fixture('shapes'), options);
    expect(train.classNames).toEqual(['circle', 'square']);
    expect([train.labels.length, heldOut.labels.length]).toEqual([7, 3]);
    const expected = JSON.parse(await readFile(fixture('shapes.json'), 'utf8'));
    for (const [part, images] of [
      ['train', train],
      ['test', heldOut],
    ] as const) {
      for (const [i, { label, pixel }] of (
        expected[part] as { label: number; pixel: number[] }[]
      ).entries()) {
        expect(images.labels[i]).toBe(label);
        expect([...(await images.image(i)).data.subarray(0, 3)]).toEqual(pixel);
      }
      await images.close?.();
    }
    expect(use.unused).toEqual([]);
  });

  test.each([0.3, 0.9, 0.999])('cut off at %f of its bytes', async (share) => {
    const whole = await readFile(fixture('shapes/train-00000-of-00001.parquet'));
    const file = path.join(home, `cut-${share}.parquet`);
    await writeFile(file, whole.subarray(0, Math.floor(share * whole.length)));
    await expect(openDataset(file, options)).rejects.toMatchObject({ code: 'format', file });
  });

  test('damaged in the middle: the file is named when an image of it is asked for', async () => {
    const whole = await readFile(fixture('shapes/train-00000-of-00001.parquet'));
    whole.fill(0xff, 40, 400);
    const file = path.join(home, 'damaged.parquet');
    await writeFile(file, whole);
    const read = async () => {
      const { whole: all } = await openDataset(file, { ...options, heldOut: 0.5 });
      for (let i = 0; i < 7; i++) await all?.image(i);
    };
    await expect(read()).rejects.toMatchObject({ code: expect.stringMatching(/format|unsupported/) });
  });
});

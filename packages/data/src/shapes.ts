import { checkOptions, DetailFlowError, describe, RandomStream } from '@detailflow/core';
import type { ImageDataset } from './dataset';
import { Purpose } from './purpose';
import type { RgbImage } from './rgb-image';

/** Of the drawing: another one when the same seed gives other pictures. */
const VERSION = 1;

type Vector = readonly [number, number, number];

/** Distance from a point to the surface of a solid about 1 in radius, negative inside. */
type Solid = (x: number, y: number, z: number) => number;

const solids: Readonly<Record<string, Solid>> = {
  sphere: (x, y, z) => Math.hypot(x, y, z) - 0.85,
  cube: (x, y, z) => box(x, y, z, 0.6, 0.6, 0.6) - 0.04,
  cylinder: (x, y, z) => prism(Math.hypot(x, z) - 0.55, Math.abs(y) - 0.75),
  cone: (x, y, z) => Math.max(0.85 * Math.hypot(x, z) + 0.45 * (y - 0.8), -0.75 - y),
  torus: (x, y, z) => Math.hypot(Math.hypot(x, z) - 0.65, y) - 0.27,
  pyramid: (x, y, z) => Math.max(0.85 * Math.max(Math.abs(x), Math.abs(z)) + 0.45 * (y - 0.85), -0.65 - y),
  capsule: (x, y, z) => Math.hypot(x, y - Math.max(-0.5, Math.min(0.5, y)), z) - 0.38,
  octahedron: (x, y, z) => (Math.abs(x) + Math.abs(y) + Math.abs(z) - 1.05) * 0.577,
  bar: (x, y, z) => box(x, y, z, 0.9, 0.22, 0.4) - 0.03,
  cross: (x, y, z) =>
    Math.min(box(x, y, z, 0.85, 0.24, 0.24), box(x, y, z, 0.24, 0.85, 0.24), box(x, y, z, 0.24, 0.24, 0.85)),
};

const box = (x: number, y: number, z: number, a: number, b: number, c: number) => {
  const [dx, dy, dz] = [Math.abs(x) - a, Math.abs(y) - b, Math.abs(z) - c];
  const outside = Math.hypot(Math.max(dx, 0), Math.max(dy, 0), Math.max(dz, 0));
  return outside + Math.min(Math.max(dx, dy, dz), 0);
};

const prism = (radial: number, axial: number) =>
  Math.min(Math.max(radial, axial), 0) + Math.hypot(Math.max(radial, 0), Math.max(axial, 0));

/** The classes of {@link shapesDataset}. */
export const shapeNames: readonly string[] = Object.keys(solids);

/**
 * Shaded solids of ten kinds, in all positions and colours, on a plain ground: a data set of any size that needs no
 * download. Image i is of class i mod 10 and follows from seed and i alone.
 * @param options.images how many, 1 .. 10 million
 * @param options.size side in pixels, 1 .. 1024
 */
export function shapesDataset(options: { images: number; size: number; seed?: number }): ImageDataset {
  checkOptions('shapesDataset', options, { images: true, size: true, seed: true });
  const { images, size, seed = 0 } = options;
  if (!Number.isInteger(images) || images < 1 || images > 1e7) {
    throw new DetailFlowError(
      'invalid-argument',
      `images is ${describe(images)}; give a whole number from 1 to 10000000`,
    );
  }
  if (!Number.isInteger(size) || size < 1 || size > 1024) {
    throw new DetailFlowError(
      'invalid-argument',
      `size is ${describe(size)}; give a whole number from 1 to 1024`,
    );
  }
  return {
    name: `${images} shapes of ${size} pixels`,
    classNames: shapeNames,
    labels: Int32Array.from({ length: images }, (_, i) => i % shapeNames.length),
    image: async (index) => drawShape(index, size, seed),
    digest: async (index) => new TextEncoder().encode(`shape ${VERSION} ${index} ${size} ${seed}`),
  };
}

function drawShape(index: number, size: number, seed: number): RgbImage {
  const random = new RandomStream({ seed, purpose: Purpose.shape, position: index });
  const solid = solids[shapeNames[index % shapeNames.length]];
  const turn = rotation(random);
  const scale = 0.75 + 0.3 * random.uniform();
  const [shiftX, shiftY] = [0.3 * (random.uniform() - 0.5), 0.3 * (random.uniform() - 0.5)];
  const colour = hueColour(random.uniform(), 0.55 + 0.45 * random.uniform());
  const ground = hueColour(random.uniform(), 0.25).map((x) => 0.25 + 0.5 * x);
  const light = unit([random.uniform() - 0.5, 0.4 + 0.6 * random.uniform(), 0.6 + 0.4 * random.uniform()]);

  /** In the solid's own coordinates. */
  const distance = (x: number, y: number, z: number) => {
    const [u, v, w] = [(x - shiftX) / scale, (y - shiftY) / scale, z / scale];
    return (
      scale *
      solid(
        turn[0] * u + turn[1] * v + turn[2] * w,
        turn[3] * u + turn[4] * v + turn[5] * w,
        turn[6] * u + turn[7] * v + turn[8] * w,
      )
    );
  };
  const data = new Uint8Array(3 * size * size);
  for (let row = 0; row < size; row++) {
    for (let column = 0; column < size; column++) {
      const x = (2.6 * (column + 0.5)) / size - 1.3;
      const y = 1.3 - (2.6 * (row + 0.5)) / size;
      const hit = march(distance, x, y);
      const shade = hit && shading(distance, hit, light);
      for (let c = 0; c < 3; c++) {
        const value = shade
          ? colour[c] * shade.diffuse + shade.shine
          : ground[c] * (1.05 - (0.3 * row) / size);
        data[3 * (row * size + column) + c] = Math.round(255 * Math.min(1, Math.max(0, value)));
      }
    }
  }
  return { data, width: size, height: size };
}

type Distance = (x: number, y: number, z: number) => number;

/** Where a ray along -z first meets the surface. */
function march(distance: Distance, x: number, y: number): Vector | undefined {
  for (let z = 1.6, i = 0; i < 48 && z > -1.6; i++) {
    const d = distance(x, y, z);
    if (d < 0.004) return [x, y, z];
    z -= 0.9 * d;
  }
  return undefined;
}

function shading(distance: Distance, [x, y, z]: Vector, light: Vector): { diffuse: number; shine: number } {
  const e = 0.004;
  const normal = unit([
    distance(x + e, y, z) - distance(x - e, y, z),
    distance(x, y + e, z) - distance(x, y - e, z),
    distance(x, y, z + e) - distance(x, y, z - e),
  ]);
  const facing = normal[0] * light[0] + normal[1] * light[1] + normal[2] * light[2];
  const half = unit([light[0], light[1], light[2] + 1]);
  const mirrored = Math.max(0, normal[0] * half[0] + normal[1] * half[1] + normal[2] * half[2]);
  return { diffuse: 0.25 + 0.75 * Math.max(0, facing), shine: 0.35 * mirrored ** 24 };
}

/** A rotation drawn uniformly, as a matrix row by row. Source: Shoemake, Graphics Gems III, 1992. */
function rotation(random: RandomStream): readonly number[] {
  const [u, a, b] = [random.uniform(), 2 * Math.PI * random.uniform(), 2 * Math.PI * random.uniform()];
  const [p, q] = [Math.sqrt(1 - u), Math.sqrt(u)];
  const [x, y, z, w] = [p * Math.sin(a), p * Math.cos(a), q * Math.sin(b), q * Math.cos(b)];
  return [
    ...[1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
    ...[2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
    ...[2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
  ];
}

/** A colour of full brightness: hue 0 .. 1, saturation 0 .. 1. */
function hueColour(hue: number, saturation: number): number[] {
  return [0, 2, 4].map((shift) => {
    const k = (6 * hue + shift) % 6;
    const channel = Math.min(1, Math.max(0, Math.abs(k - 3) - 1));
    return 1 - saturation * (1 - channel);
  });
}

function unit([x, y, z]: Vector): Vector {
  const length = Math.hypot(x, y, z) || 1;
  return [x / length, y / length, z / length];
}

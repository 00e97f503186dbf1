import { averagePool2d, conv2d, maxPool2d } from '../ops/convolution';
import { type ConformanceCase, f32, fixed } from './conformance-case';

/** Convolutions and pools. */
export const convolutionCases: readonly ConformanceCase[] = [
  ...(
    [
      [[2, 3, 5, 6], [4, 3, 3, 3], {}],
      [[1, 2, 7, 5], [3, 2, 3, 2], { stride: 2, padding: [1, 0, 2, 1] }],
      [[2, 2, 6, 6], [2, 2, 1, 1], { stride: [2, 3] }],
      [[2, 2, 5, 6], [3, 2, 1, 1], { padding: [0, 0, 1, 2] }],
      [[1, 2, 4, 5], [2, 2, 1, 1], { padding: [2, 1, 0, 1], stride: [1, 2] }],
      [[1, 2, 8, 9], [2, 2, 1, 7], { padding: [0, 3, 0, 3] }],
      [[1, 1, 9, 9], [2, 1, 3, 3], { dilation: 2, stride: [1, 2], padding: 2 }],
      [[2, 2, 3, 3], [3, 2, 2, 2], { padding: 3 }],
    ] as const
  ).map(([shape, kernel, options]) =>
    fixed(
      `conv2d [${shape}] [${kernel}] ${JSON.stringify(options)}`,
      { x: f32(...shape), kernel: f32(...kernel) },
      ({ x, kernel }) => conv2d(x, kernel, options),
    ),
  ),
  ...([{ kernel: 2 }, { kernel: [3, 2] }] as const).flatMap((options) => [
    fixed(`maxPool2d ${JSON.stringify(options)}`, { x: f32(2, 3, 6, 4) }, ({ x }) => maxPool2d(x, options)),
    fixed(`averagePool2d ${JSON.stringify(options)}`, { x: f32(2, 3, 6, 4) }, ({ x }) =>
      averagePool2d(x, options),
    ),
  ]),
];

/** Pools whose windows overlap, which have no gradients. */
export const overlappingPoolCases: readonly ConformanceCase[] = (
  [
    { kernel: 3, stride: 2 },
    { kernel: 3, stride: 1, padding: 1 },
    { kernel: [2, 3], stride: [1, 2], padding: [1, 1, 0, 1] },
  ] as const
).flatMap((options) => [
  fixed(`overlapping maxPool2d ${JSON.stringify(options)}`, { x: f32(2, 2, 7, 8) }, ({ x }) =>
    maxPool2d(x, options),
  ),
  fixed(`overlapping averagePool2d ${JSON.stringify(options)}`, { x: f32(2, 2, 7, 8) }, ({ x }) =>
    averagePool2d(x, options),
  ),
]);

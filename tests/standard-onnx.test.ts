import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { createTokenModel } from '@detailflow/ar-model';
import { openFile } from '@detailflow/checkpoint/node';
import { readSafetensors, Tensor } from '@detailflow/core';
import { checkConformance, conformanceCases } from '@detailflow/core/conformance';
import { createReferenceBackend } from '@detailflow/core/reference';
import { createTokenizer } from '@detailflow/tokenizer';
import { afterAll, describe, expect, test } from 'vitest';
import { expectClose, golden } from './golden';
import { goldenTokenizer, goldenTokenModel } from './models';
import { createPlainOnnxBackend, operatorsOf } from './plain-onnx';

/** Of the operators of ONNX opset 21 (github.com/onnx/onnx, docs/Operators.md) those without control flow. */
const standardOperators = new Set(
  `Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization Bernoulli BitShift
  BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil Celu CenterCropPad Clip Col2Im Compress Concat Constant
  ConstantOfShape Conv ConvInteger ConvTranspose Cos Cosh CumSum DFT DepthToSpace DequantizeLinear Det Div Dropout
  DynamicQuantizeLinear Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor Gather GatherElements GatherND Gelu Gemm
  GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample GroupNormalization HardSigmoid
  HardSwish Hardmax Identity InstanceNormalization IsInf IsNaN LayerNormalization LeakyRelu Less LessOrEqual Log
  LogSoftmax LpNormalization LpPool MatMul MatMulInteger Max MaxPool Mean MeanVarianceNormalization Min Mish Mod Mul
  Multinomial Neg NonZero Not OneHot Or PRelu Pad Pow QLinearConv QLinearMatMul QuantizeLinear RandomNormal
  RandomUniform Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin
  ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize ReverseSequence Round ScatterElements ScatterND Selu Shape
  Shrink Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh
  ThresholdedRelu Tile TopK Transpose Trilu Unique Unsqueeze Upsample Where Xor`.split(/\s+/),
);

const used = new Set<string>();
const domains = new Set<string>();
const backend = createPlainOnnxBackend({
  onModel: (onnx) => {
    const found = operatorsOf(onnx);
    for (const name of found.operators) used.add(name);
    for (const domain of found.domains) domains.add(domain);
  },
});

describe('standard ONNX in any runtime computes what the graph says', () => {
  test.each(conformanceCases)('$name', async (one) => {
    await checkConformance(backend, one);
  });

  test('the tokenizer decoder of golden configuration A', async () => {
    const { data, shape } = golden('A/golden_tokenizer.safetensors')['enc.indices'];
    const codes = new Tensor('int32', data as Int32Array, shape);
    const pixels = async (on: typeof backend) =>
      (await createTokenizer({ ...goldenTokenizer('A'), backend: on }).decode(codes)).data as Float32Array;
    expectClose(await pixels(backend), await pixels(createReferenceBackend()), 1e-5);
  });

  test('the AR step of golden configuration A, from the first token to the last', async () => {
    const { config, weights } = goldenTokenModel('A');
    const { data: codes } = golden('A/golden_ar.safetensors').codes;
    const { tokens } = config;
    const logits = async (on: typeof backend) => {
      const session = await createTokenModel({ config, weights, backend: on }).begin([3, 7]);
      const all: number[] = [];
      let chosen: Int32Array | undefined;
      for (let at = 0; at < tokens; ) {
        all.push(...((await session.predict(chosen)).data as Float32Array));
        const count = session.nextCount;
        chosen = Int32Array.from(
          { length: 2 * count },
          (_, i) => codes[Math.floor(i / count) * tokens + at + (i % count)],
        );
        at += count;
      }
      return all;
    };
    expectClose(await logits(backend), await logits(createReferenceBackend()), 1e-5);
  });

  afterAll(() => {
    expect([...used].filter((name) => !standardOperators.has(name))).toEqual([]);
    expect([...domains]).toEqual(['']);
    expect(used).toContain('LayerNormalization'); // so something was recorded
  });
});

test('weights in a file beside the model equal weights inside it', async () => {
  const file = fileURLToPath(new URL('./fixtures/golden/B/tokenizer/model.safetensors', import.meta.url));
  const source = await openFile(file);
  const onDisk = await readSafetensors(source);
  const sizes: number[] = [];
  const onModel = (onnx: Uint8Array) => void sizes.push(onnx.length);
  const external = createPlainOnnxBackend({
    folder: path.dirname(file),
    place: async (weights) => (name) => {
      const { offset, length } = weights.get(name)!.location!;
      return { file: path.basename(file), offset, length };
    },
    onModel,
  });
  const { data, shape } = golden('B/golden_tokenizer.safetensors')['enc.indices'];
  const codes = new Tensor('int32', data as Int32Array, shape);
  const { config } = goldenTokenizer('B');
  const decode = async (on: typeof backend) =>
    (await createTokenizer({ config, weights: onDisk, backend: on }).decode(codes)).data;
  expect(await decode(external)).toEqual(await decode(createPlainOnnxBackend({ onModel })));
  const bytes = [...onDisk.values()].reduce(
    (sum, { name, location }) => (name.startsWith('decoder.') ? sum + location!.length : sum),
    0,
  );
  expect(sizes[1] - sizes[0]).toBeGreaterThan(bytes * 0.9); // the weights really were outside
  await source.close();
});

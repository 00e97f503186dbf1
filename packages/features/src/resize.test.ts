import { Tensor, trace } from '@detailflow/core';
import { createReferenceBackend } from '@detailflow/core/reference';
import ort from 'onnxruntime-node';
import protobuf from 'protobufjs';
import { expect, test } from 'vitest';
import { numbers } from '../../../tests/numbers-by-formula';
import { resizeForInception } from './inception';

/** The parts of the ONNX format that a model of one operator needs, with the field numbers of the standard. */
const { root } = protobuf.parse(`
  syntax = "proto3";
  message Model { int64 ir_version = 1; repeated OperatorSet opset_import = 8; Graph graph = 7; }
  message OperatorSet { string domain = 1; int64 version = 2; }
  message Graph { repeated Node node = 1; string name = 2; repeated Constant initializer = 5; repeated Info input = 11; repeated Info output = 12; }
  message Node { repeated string input = 1; repeated string output = 2; string op_type = 4; repeated Attribute attribute = 5; }
  message Attribute { string name = 1; bytes s = 4; int32 type = 20; }
  message Constant { repeated int64 dims = 1; int32 data_type = 2; repeated int64 int64_data = 7; string name = 8; }
  message Info { string name = 1; Type type = 2; }
  message Type { TensorType tensor_type = 1; }
  message TensorType { int32 elem_type = 1; Shape shape = 2; }
  message Shape { repeated Dim dim = 1; }
  message Dim { int64 dim_value = 1; }
`);

/** ONNX's Resize with the coordinates of TensorFlow 1: bilinear, corners not aligned, centres not shifted. */
async function resizeByOnnx(
  images: Float32Array,
  shape: readonly number[],
  size: number,
): Promise<Float32Array> {
  const info = (name: string, dims: readonly number[]) => ({
    name,
    type: { tensorType: { elemType: 1, shape: { dim: dims.map((dimValue) => ({ dimValue })) } } },
  });
  const text = (name: string, value: string) => ({ name, s: new TextEncoder().encode(value), type: 3 });
  const target = [...shape.slice(0, 2), size, size];
  const model = {
    irVersion: 8,
    opsetImport: [{ domain: '', version: 13 }],
    graph: {
      name: 'resize',
      node: [
        {
          input: ['x', '', '', 'sizes'],
          output: ['y'],
          opType: 'Resize',
          attribute: [text('mode', 'linear'), text('coordinate_transformation_mode', 'asymmetric')],
        },
      ],
      initializer: [{ name: 'sizes', dims: [4], dataType: 7, int64Data: target }],
      input: [info('x', shape)],
      output: [info('y', target)],
    },
  };
  const session = await ort.InferenceSession.create(root.lookupType('Model').encode(model).finish());
  const { y } = await session.run({ x: new ort.Tensor('float32', images, shape) });
  await session.release();
  return y.data as Float32Array;
}

test.each([
  [40, 52],
  [20, 400],
  [310, 24],
])('%i x %i pixels are resized for Inception as by ONNX Runtime', async (height, width) => {
  const shape = [1, 3, height, width];
  const images = numbers('images', 3 * height * width).map((x) => Math.floor(128 * (x + 1)));
  const graph = trace((g) => ({ y: resizeForInception(g.input('images', 'f32', shape)) }));
  const executable = await createReferenceBackend().compile(graph, new Map());
  const { y } = await executable.run({ images: new Tensor('float32', images, shape) });
  const expected = await resizeByOnnx(images, shape, 299);
  let most = 0;
  for (let i = 0; i < expected.length; i++)
    most = Math.max(most, Math.abs((y.data[i] as number) - expected[i]));
  expect(y.data).toHaveLength(expected.length);
  expect(most).toBeLessThan(0.02); // of 255: both round where a pixel is read to float32
});

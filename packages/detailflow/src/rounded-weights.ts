import type { FamilyModel } from '@detailflow/checkpoint';
import {
  DetailFlowError,
  type RoundedMatrix,
  readFloat32,
  type Weight,
  type Weights,
} from '@detailflow/core';
import { roundedParts, roundedWeight } from '@detailflow/core/rounded-weight';
import {
  type InputMoments,
  type MatrixFormat,
  matrixFormats,
  type Quantisation,
  type QuantisedMatrix,
  quantise,
  quantiseForInputs,
} from '@detailflow/onnx';

/**
 * Weights of a model's transformer with the matrices of its step in few bits, by what goes into them where that is measured. Each is rounded when it is first read; its levels are
 * held until they are read as well.
 * @throws DetailFlowError `unsupported` for a model without a transformer
 */
export function roundedWeights(
  opened: FamilyModel,
  weights: Weights,
  dtype: Quantisation,
  moments?: ReadonlyMap<string, readonly InputMoments[]>,
): Weights {
  const step = opened.graphs?.step;
  if (!step) {
    throw new DetailFlowError(
      'unsupported',
      `${dtype} rounds the matrices of a transformer, and this model of ${opened.family} has none`,
      { file: opened.tokenizer.file },
    );
  }
  const formats = matrixFormats(step().graph, dtype);
  return new Map(
    [...weights].map(([name, weight]) => {
      const format = formats.get(name);
      return [name, format ? rounded(weight, format, opened.ar?.file, moments?.get(name)) : weight];
    }),
  );
}

function rounded(
  weight: Weight,
  format: MatrixFormat,
  file: string | undefined,
  moments: readonly InputMoments[] | undefined,
): Weight {
  const { name, shape } = weight;
  const { bits, block } = format;
  const [out, columns] = shape;
  let made: Promise<QuantisedMatrix> | undefined;
  const make = async () => {
    const [values, matrix] = [await readFloat32(weight), { ...format, name, out, in: columns }];
    return moments ? quantiseForInputs(values, matrix, moments) : quantise(values, matrix);
  };
  const part = (what: string, rest: Pick<Weight, 'dtype' | 'shape' | 'read'>): Weight => ({
    name: `${name}.${what}`,
    ...rest,
  });
  const parts = roundedParts(format, shape);
  const matrix: RoundedMatrix = {
    ...{ bits, block },
    values: part(`q${bits}`, {
      ...parts.values,
      async read() {
        made ??= make();
        const { values } = await made;
        made = undefined;
        return new Uint8Array(values.buffer);
      },
    }),
    scales: part('scales', {
      ...parts.scales,
      async read() {
        made ??= make();
        return new Uint8Array((await made).scales.buffer);
      },
    }),
  };
  return roundedWeight(name, shape, matrix, file);
}

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
  suitableFormat,
} from '@detailflow/onnx';

/**
 * Weights of a model's transformer with the matrices of its step in few bits, by what goes into them where that is measured.
 * @throws DetailFlowError `unsupported` for a model without a transformer
 */
export async function roundedTransformer(
  opened: FamilyModel,
  weights: Weights,
  dtype: Quantisation,
  moments?: ReadonlyMap<string, readonly InputMoments[]>,
): Promise<Weights> {
  const step = opened.graphs?.step;
  if (!step) {
    throw new DetailFlowError(
      'unsupported',
      `${dtype} rounds the matrices of a transformer, and this model of ${opened.family} has none`,
      { file: opened.tokenizer.file },
    );
  }
  return roundedWeights(weights, matrixFormats(step().graph, dtype), opened.ar?.file, moments);
}

/** Weights of a tokenizer with those matrices in 8 bits that only its decoder reads: what is encoded does not change. */
export async function roundedDecoder({ graphs, tokenizer }: FamilyModel, weights: Weights): Promise<Weights> {
  const { encoder, decoder } = graphs ?? {};
  if (!encoder || !decoder) return weights;
  const formats = matrixFormats(decoder().graph, 'q8');
  for (const name of encoder().graph.weights.keys()) formats.delete(name);
  return roundedWeights(weights, formats, tokenizer.file);
}

/** Each is read to choose its format, and rounded when it is first read again; its levels are held until they are read as well. */
async function roundedWeights(
  weights: Weights,
  formats: ReadonlyMap<string, MatrixFormat>,
  file: string | undefined,
  moments?: ReadonlyMap<string, readonly InputMoments[]>,
): Promise<Weights> {
  const all = new Map(weights);
  for (const [name, wanted] of formats) {
    const weight = weights.get(name);
    if (!weight || weight.rounded) continue;
    const [out, columns] = weight.shape;
    const format = suitableFormat(await readFloat32(weight), { ...wanted, name, out, in: columns });
    all.set(name, rounded(weight, format, file, moments?.get(name)));
  }
  return all;
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

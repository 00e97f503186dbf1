import { type ByteSource, DetailFlowError } from '@detailflow/core';
import { type NpzArray, openNpz, writeNpz } from '@detailflow/data';
import { factorCovariance } from './covariance';
import type { FeatureStatistics } from './feature-set';
import type { Gaussian } from './gaussian-statistics';

const MOST_FEATURES = 16384;
const names = { pool: ['mu', 'sigma'], spatial: ['mu_s', 'sigma_s'] } as const;

/**
 * Reads statistics as pytorch-fid and the ADM evaluator store them: a .npz file with `mu` [D] and `sigma` [D, D], and
 * for sFID `mu_s` and `sigma_s`, of floats.
 * @throws DetailFlowError `format`, `dtype`, `shape` or `invalid-argument` naming the array, which must hold finite
 *   numbers and, where it is `sigma`, be a covariance; `limit`
 */
export async function readStatistics(source: ByteSource): Promise<FeatureStatistics> {
  const found = await findStatistics(await openNpz(source), source.name);
  if (found) return found;
  throw new DetailFlowError('format', 'has no statistics: the arrays mu and sigma', { file: source.name });
}

/** As {@link readStatistics}, of arrays that are open; undefined where there are none. */
export async function findStatistics(
  arrays: ReadonlyMap<string, NpzArray>,
  file?: string,
): Promise<FeatureStatistics | undefined> {
  const pool = await gaussianOf(arrays, names.pool, file);
  if (!pool) return undefined;
  const spatial = await gaussianOf(arrays, names.spatial, file);
  return { pool, ...(spatial && { spatial }) };
}

/** The same as a .npz file of float64 arrays. */
export function formatStatistics({ pool, spatial }: FeatureStatistics): Uint8Array {
  const arrays = ({ mean, covariance }: Gaussian, [mu, sigma]: readonly [string, string]) => ({
    [mu]: { data: mean, shape: [mean.length] },
    [sigma]: { data: covariance, shape: [mean.length, mean.length] },
  });
  return writeNpz({ ...arrays(pool, names.pool), ...(spatial && arrays(spatial, names.spatial)) });
}

async function gaussianOf(
  arrays: ReadonlyMap<string, NpzArray>,
  [mu, sigma]: readonly [string, string],
  file?: string,
): Promise<Gaussian | undefined> {
  const [mean, covariance] = [arrays.get(mu), arrays.get(sigma)];
  if (!mean && !covariance) return undefined;
  const width = mean?.shape[0] ?? 0;
  if (mean?.shape.length !== 1 || covariance?.shape.join() !== `${width},${width}` || width === 0) {
    throw new DetailFlowError(
      'shape',
      `${mu} is [${mean?.shape ?? ''}] and ${sigma} [${covariance?.shape ?? ''}]; must be [D] and [D, D]`,
      { file },
    );
  }
  if (width > MOST_FEATURES) {
    throw new DetailFlowError('limit', `${width} features are too many; at most ${MOST_FEATURES}`, { file });
  }
  const found = { mean: await floats(mean, mu, file), covariance: await floats(covariance, sigma, file) };
  factorCovariance(found.covariance, width, { file, entry: sigma });
  return found;
}

async function floats(array: NpzArray, entry: string, file?: string): Promise<Float64Array> {
  if (!array.dtype.startsWith('float')) {
    throw new DetailFlowError('dtype', `is ${array.dtype}; must be float16, float32 or float64`, {
      file,
      entry,
    });
  }
  const values = Float64Array.from((await array.read()).data as Float64Array);
  if (values.every(Number.isFinite)) return values;
  throw new DetailFlowError('invalid-argument', 'holds numbers that are not finite', { file, entry });
}

import { DetailFlowError } from '@detailflow/core';
import { type NpyArray, readNpz, writeNpz } from '@detailflow/data';
import type { Gaussian } from './gaussian-statistics';

/** Statistics of reference images: of the pooled features, and where the file has them of the spatial ones. */
export interface ReferenceStatistics {
  readonly pool: Gaussian;
  readonly spatial?: Gaussian;
}

const MOST_FEATURES = 16384;
const names = { pool: ['mu', 'sigma'], spatial: ['mu_s', 'sigma_s'] } as const;

/**
 * Reads statistics as pytorch-fid and the ADM evaluator store them: a .npz file with `mu` [D] and `sigma` [D, D], and
 * for sFID `mu_s` and `sigma_s`, float32 or float64.
 * @throws DetailFlowError `format`, `dtype`, `shape` or `invalid-argument` naming the array; `limit`
 */
export function parseStatistics(bytes: Uint8Array, file?: string): ReferenceStatistics {
  const arrays = readNpz(bytes, { file });
  const pool = gaussianOf(arrays, names.pool, file);
  if (!pool) {
    throw new DetailFlowError('format', 'has no statistics: the arrays mu and sigma', { file });
  }
  const spatial = gaussianOf(arrays, names.spatial, file);
  return { pool, ...(spatial && { spatial }) };
}

/** The same as a .npz file of float64 arrays. */
export function formatStatistics({ pool, spatial }: ReferenceStatistics): Uint8Array {
  const arrays = ({ mean, covariance }: Gaussian, [mu, sigma]: readonly [string, string]) => ({
    [mu]: { data: mean, shape: [mean.length] },
    [sigma]: { data: covariance, shape: [mean.length, mean.length] },
  });
  return writeNpz({ ...arrays(pool, names.pool), ...(spatial && arrays(spatial, names.spatial)) });
}

function gaussianOf(
  arrays: ReadonlyMap<string, NpyArray>,
  [mu, sigma]: readonly [string, string],
  file?: string,
): Gaussian | undefined {
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
  return { mean: floats(mean, mu, file), covariance: floats(covariance, sigma, file) };
}

function floats({ dtype, data }: NpyArray, entry: string, file?: string): Float64Array {
  if (dtype !== 'float32' && dtype !== 'float64') {
    throw new DetailFlowError('dtype', `is ${dtype}; must be float32 or float64`, { file, entry });
  }
  const values = Float64Array.from(data as Float64Array);
  if (values.every(Number.isFinite)) return values;
  throw new DetailFlowError('invalid-argument', 'holds numbers that are not finite', { file, entry });
}

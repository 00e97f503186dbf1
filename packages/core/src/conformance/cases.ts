import { indexingCases, layoutCases, productCases, reductionCases } from './array-cases';
import { compositeCases } from './composite-cases';
import type { ConformanceCase } from './conformance-case';
import { convolutionCases, overlappingPoolCases } from './convolution-cases';
import { elementwiseCases } from './elementwise-cases';
import { stateCases } from './state-cases';

/**
 * Cases that every backend must pass, for each operation, dtype, odd shape and use of state: graphs with feeds;
 * {@link checkConformance} runs them.
 */
export const conformanceCases: readonly ConformanceCase[] = [
  ...convolutionCases,
  ...overlappingPoolCases,
  ...elementwiseCases,
  ...productCases,
  ...layoutCases,
  ...indexingCases,
  ...reductionCases,
  ...compositeCases,
  ...stateCases,
];

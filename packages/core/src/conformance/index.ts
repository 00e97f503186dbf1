export { conformanceCases } from './cases';
export type { ConformanceCase } from './conformance-case';
export { gradientCases } from './gradient-cases';
export { checkConformance } from './run-case';
export { checkSharedState } from './shared-state';
export { checkStateExtents } from './state-extents';
export { checkStateWindows } from './state-windows';

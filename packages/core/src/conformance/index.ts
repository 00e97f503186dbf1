export { type ConformanceCase, conformanceCases } from './cases';
export { gradientCases } from './gradient-cases';
export { checkConformance } from './run-case';
export { checkSharedState } from './shared-state';
export { checkStateWindows } from './state-windows';

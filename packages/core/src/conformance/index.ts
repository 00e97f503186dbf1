export { type ConformanceCase, conformanceCases } from './cases';
export { checkConformance } from './run-case';

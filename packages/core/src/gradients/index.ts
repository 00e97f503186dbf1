export { gradientRules, gradients } from './gradients';
export type { GradientRule, Usage } from './rule';

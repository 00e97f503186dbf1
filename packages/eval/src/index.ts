export { frechetDistance, traceOfRoot } from './frechet-distance';
export { type Gaussian, GaussianStatistics } from './gaussian-statistics';
export { inceptionScore } from './inception-score';
export { type KernelDistanceOptions, kernelDistance } from './kernel-distance';
export { type PrecisionRecallOptions, precisionRecall } from './precision-recall';
export { psnr } from './psnr';
export { ssim } from './ssim';
export { symmetricEigenvalues } from './symmetric-eigenvalues';

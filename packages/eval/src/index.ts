export { psnr } from './psnr';

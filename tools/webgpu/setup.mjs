// What `npm run setup:webgpu` runs: installs what tests of WebGPU need, on Debian and Ubuntu.
import { execFileSync } from 'node:child_process';
import { browserPath, provideDriver } from './driver.mjs';

const missing = provideDriver();
if (!missing && browserPath) {
  console.log(`WebGPU: ${process.env.VK_ICD_FILENAMES ?? "the system's driver"}, ${browserPath}`);
  process.exit(0);
}
const isDebian = process.platform === 'linux' && process.getuid?.() === 0;
try {
  if (!isDebian) throw new Error('not root on Debian or Ubuntu');
  console.log('installing chromium and libvulkan1 ...');
  execFileSync('apt-get', ['update', '-qq'], { stdio: ['ignore', 'ignore', 'inherit'] });
  execFileSync('apt-get', ['install', '-y', '-qq', '--no-install-recommends', 'chromium', 'libvulkan1'], {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
  });
} catch (error) {
  console.error(
    `WebGPU cannot be set up here (${error.message}): install Chromium and a Vulkan driver by hand.`,
  );
  console.error('Tests that need them are skipped, and say so.');
}

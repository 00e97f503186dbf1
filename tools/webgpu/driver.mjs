// Where this machine has what WebGPU needs: Debian's Chromium brings a Vulkan driver that computes on the CPU.
import { existsSync, readdirSync } from 'node:fs';

const SOFTWARE_DRIVER = '/usr/lib/chromium/vk_swiftshader_icd.json';
const LOADER_FOLDERS = ['/usr/lib/x86_64-linux-gnu', '/usr/lib/aarch64-linux-gnu', '/usr/lib64', '/usr/lib'];

/** A browser that tests can drive, or undefined. */
export const browserPath = ['/usr/bin/chromium', '/usr/bin/google-chrome'].find((file) => existsSync(file));

/**
 * Makes the software driver known to programs of this process, unless one is chosen already.
 * @returns why there is no WebGPU here, or undefined
 */
export function provideDriver() {
  if (process.platform !== 'linux') return undefined; // the system brings one
  const hasLoader = LOADER_FOLDERS.some(
    (folder) => existsSync(folder) && readdirSync(folder).some((name) => name.startsWith('libvulkan.so')),
  );
  if (!hasLoader) return 'there is no Vulkan loader (libvulkan1): run npm run setup:webgpu';
  if (process.env.VK_ICD_FILENAMES || process.env.VK_DRIVER_FILES) return undefined;
  if (existsSync(SOFTWARE_DRIVER)) process.env.VK_ICD_FILENAMES = SOFTWARE_DRIVER;
  return undefined;
}

import { existsSync, readFileSync } from 'node:fs';

/** Memory of this process in MiB: its own pages, pages of mapped files, and the most it held so far. Linux only. */
export function memoryMiB() {
  if (!existsSync('/proc/self/status')) return undefined;
  const status = readFileSync('/proc/self/status', 'utf8');
  const of = (name) => Math.round(Number(new RegExp(`${name}:\\s+(\\d+)`).exec(status)?.[1]) / 1024);
  return { anonymous: of('RssAnon'), mappedFiles: of('RssFile'), peak: of('VmHWM') };
}

import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { NodeDevice } from './protocol';
import { quietEnvironment } from './telemetry';

/** What a child process found out about a device. */
export type ProbeResult =
  | {
      readonly usable: true /** Time of the probe's work relative to the CPU's. */;
      readonly relativeTime: number;
    }
  | { readonly usable: false; readonly reason: string };

/** A missing CUDA library may abort the process that loads it, so devices are tried in a child process. */
export async function probeDevice(device: Exclude<NodeDevice, 'cpu'>): Promise<ProbeResult> {
  const script = fileURLToPath(new URL('./probe-child.js', import.meta.url));
  return new Promise((resolve) => {
    const options = { timeout: 60_000, env: quietEnvironment() };
    execFile(process.execPath, [script, device], options, (error, stdout, stderr) => {
      const line = stdout.trim().split('\n').at(-1) ?? '';
      try {
        resolve(JSON.parse(line) as ProbeResult);
      } catch {
        const reason =
          stderr.trim().split('\n').at(-1) || error?.message || 'the probe ended without an answer';
        resolve({ usable: false, reason });
      }
    });
  });
}

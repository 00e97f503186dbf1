/**
 * ONNX Runtime reports on itself unless this variable is set before it is loaded: it writes under the home folder and
 * looks up a host. It reads the variable natively, so one that a worker thread sets for itself does not reach it.
 */
const VARIABLE = 'ORT_DISABLE_TELEMETRY';

/** Turns the reports off for this process and its children, unless whoever runs it has decided himself. */
export function disableTelemetry(): void {
  process.env[VARIABLE] ||= '1';
}

/** The environment for a child process that loads ONNX Runtime. */
export const quietEnvironment = (): NodeJS.ProcessEnv => ({
  ...process.env,
  [VARIABLE]: process.env[VARIABLE] || '1',
});

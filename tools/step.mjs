// A step of the setup: runs a program, and shows how it comes along.
import { spawn } from 'node:child_process';

/**
 * Runs a program to its end. On a terminal one line is kept up to date; elsewhere a line is written whenever `pause`
 * milliseconds have passed without one. What the program prints is shown only when it fails.
 * @param {object} step
 * @param {string} step.title what is done, such as "installing"
 * @param {(output: string) => string | undefined} [step.state] how far it is, from all that it has printed
 * @param {{ isTTY?: boolean, write(text: string): unknown }} [step.stream]
 * @returns {Promise<boolean>} whether it succeeded
 */
export async function runStep({ title, command, args, cwd, env, state, pause, stream = process.stderr }) {
  const started = performance.now();
  const seconds = () => `${((performance.now() - started) / 1000).toFixed(0)} s`;
  const line = () => [`${title} ...`, state?.(output), seconds()].filter(Boolean).join('  ');
  let output = '';
  const show = () => stream.write(stream.isTTY ? `\r\u001b[K${line()}` : `${line()}\n`);
  show();
  const timer = setInterval(show, pause ?? (stream.isTTY ? 1000 : 10_000));
  const child = spawn(command, args, {
    cwd,
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
    shell: needsShell(command),
  });
  for (const part of [child.stdout, child.stderr]) part.on('data', (text) => (output += text));
  const failure = await new Promise((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('close', (code) => resolve(code === 0 ? undefined : `exit code ${code}`));
  });
  clearInterval(timer);
  const end = `${title}: ${failure === undefined ? 'done' : `failed (${failure})`} after ${seconds()}\n`;
  stream.write(stream.isTTY ? `\r\u001b[K${end}` : end);
  if (failure !== undefined) stream.write(`${output}\n`);
  return failure === undefined;
}

/** npm is a script on Windows, which only a shell starts. */
const needsShell = (command) => process.platform === 'win32' && command.endsWith('.cmd');

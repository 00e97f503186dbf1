// Runs the built command line again and again in one process: the modules of the program and of the runtime are read once.
// A message names the arguments, the environment and the folder of a run; its end is marked in both streams, after all it wrote.
import { pathToFileURL } from 'node:url';

const [program] = process.argv.slice(2);
const streams = [process.stdout, process.stderr];
for (const stream of streams) stream.setMaxListeners(0); // every run listens to it
let runs = 0;

process.on('disconnect', () => process.exit());
process.on('message', async ({ args, env, folder, end }) => {
  for (const name of Object.keys(process.env)) if (!Object.hasOwn(env, name)) delete process.env[name];
  Object.assign(process.env, env);
  process.chdir(folder);
  process.argv = [process.execPath, program, ...args];
  process.exitCode = undefined;
  try {
    await import(`${pathToFileURL(program)}?run=${++runs}`);
  } catch (error) {
    console.error(error);
    process.exitCode = 1;
  }
  const code = process.exitCode ?? 0;
  for (const stream of streams) await new Promise((written) => stream.write(end, written));
  process.send({ code });
});

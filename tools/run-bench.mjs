// What `npm run bench -- [full|profile|train|webgpu|eval|options|serve|family|models] [OPTIONS]` runs; full is the default.
const benches = {
  full: './bench.mjs',
  profile: './bench-profile.mjs',
  train: './bench-training.mjs',
  webgpu: './bench-webgpu.mjs',
  eval: './bench-eval.mjs',
  options: './bench-options.mjs',
  serve: './bench-serve.mjs',
  family: './bench-family.mjs',
  models: './bench-models.mjs',
};

const [name] = process.argv.slice(2);
const isNamed = Object.hasOwn(benches, name ?? '');
if (isNamed) process.argv.splice(2, 1);
await import(benches[isNamed ? name : 'full']);

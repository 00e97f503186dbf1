// Whole models in both forms: the configurations that lie in their folders, and weights that do not fit them.
import { asTree, withModel } from './checks.mjs';
import { safetensors } from './files.mjs';
import { mutateBytes, mutateJson, mutateYaml, toFields, writeJson } from './mutate.mjs';
import * as seeds from './seeds.mjs';

const json = (value) => Buffer.from(JSON.stringify(value));

const officialFiles = () => ({
  'tokenizer/config.json': json(seeds.officialTokenizer),
  'tokenizer/config.yaml': Buffer.from(seeds.trainingYaml),
  'tokenizer/siglip2_vision.json': json(seeds.vision),
  'tokenizer/checkpoints/0000001.pt': seeds.torchFile(seeds.specs.tokenizer),
  'ar/config.json': json(seeds.officialTokenModel),
  'ar/ema.safetensors': seeds.safetensorsFile(seeds.specs.ar),
});

const breakJson = (value, random) =>
  random.chance(0.15)
    ? mutateBytes(json(value), random)
    : Buffer.from(writeJson(mutateJson(toFields(value), random)));

export const officialTarget = {
  name: 'official',
  small: () => Object.entries(officialFiles()).filter(([name]) => /\.(json|yaml)$/.test(name)),
  others: officialFiles,
  make(random) {
    const files = officialFiles();
    const parts = {
      'tokenizer/config.json': () => breakJson(seeds.officialTokenizer, random),
      'ar/config.json': () => breakJson(seeds.officialTokenModel, random),
      'tokenizer/siglip2_vision.json': () => breakJson(seeds.vision, random),
      'tokenizer/config.yaml': () => mutateYaml(seeds.trainingYaml, random),
      'tokenizer/checkpoints/0000001.pt': () => breakSpecs(seeds.specs.tokenizer, random, seeds.torchFile),
      'ar/ema.safetensors': () => breakSpecs(seeds.specs.ar, random, seeds.safetensorsFile),
    };
    for (let n = 1 + random.below(2); n > 0; n--) {
      const name = random.pick(Object.keys(parts));
      files[name] = parts[name]();
    }
    if (random.chance(0.05)) delete files[random.pick(Object.keys(files))];
    return files;
  },
  run: async (input, save) => withModel(await asTree(input, save)),
};

/** A well-formed file whose weights do not fit. */
function breakSpecs(specs, random, write) {
  const list = specs.map((spec) => ({ ...spec, shape: [...spec.shape] }));
  const at = random.below(list.length);
  const choice = random.below(4);
  if (choice === 0) list.splice(at, 1);
  else if (choice === 1)
    list[at].name = random.pick(['__proto__', 'x', `module.${list[at].name}`, 'repa_model.x']);
  else if (choice === 2) list[at].shape = Array.from({ length: random.below(4) }, () => random.below(5));
  else list[at].shape.reverse();
  return write(list);
}

const bundleFiles = () => ({
  'config.json': json(seeds.card),
  'tokenizer.safetensors': seeds.safetensorsFile(seeds.specs.tokenizer),
  'ar.safetensors': seeds.safetensorsFile(seeds.specs.ar),
});

export const bundleTarget = {
  name: 'bundle',
  small: () => [['config.json', json(seeds.card)]],
  others: bundleFiles,
  make(random) {
    const files = bundleFiles();
    const choice = random.below(10);
    if (choice < 5) files['config.json'] = breakJson(seeds.card, random);
    else if (choice < 8) {
      const half = random.pick(['tokenizer', 'ar']);
      const config = writeJson(mutateJson(toFields(seeds.card[half].config), random));
      const card = { ...seeds.card, [half]: { ...seeds.card[half], config: 0 } };
      files['config.json'] = Buffer.from(
        JSON.stringify(card).replace('"config":0', () => `"config":${config}`),
      );
    } else if (choice === 8)
      files['tokenizer.safetensors'] = breakSpecs(seeds.specs.tokenizer, random, seeds.safetensorsFile);
    else {
      const { header, data } = seeds.safetensorsParts(seeds.specs.ar);
      files['ar.safetensors'] = safetensors(writeJson(mutateJson(toFields(header), random)), data);
    }
    return files;
  },
  run: async (input, save) => withModel(await asTree(input, save)),
};

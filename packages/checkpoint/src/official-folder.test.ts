import { type ByteSource, bytesSource, ConfigFields, DetailFlowError, readFloat32 } from '@detailflow/core';
import { encodeSafetensors } from '@detailflow/core/safetensors-writer';
import { expect, test } from 'vitest';
import { fileTree } from './file-tree';
import { openFolder } from './node-files';
import { readOfficialFolder } from './official-folder';
import {
  buildTorch,
  concat,
  countingSource,
  fashionPath,
  goldenPath,
  op,
  pickle,
  refusal,
  tensor,
  utf8,
} from './test-files';

const torch = (...keys: (readonly number[])[]) => buildTorch(pickle(op.dict(...keys)));
const dict = (...names: string[]) => op.dict(...names.flatMap((name) => [op.text(name), tensor()]));
const plain = torch(op.text('model'), dict('w'));

function tree(files: Record<string, string | Uint8Array | ByteSource>) {
  const sources = Object.entries(files).map(([path, data]): [string, ByteSource] => {
    if (typeof data === 'object' && 'read' in data) return [path, data];
    return [path, bytesSource(typeof data === 'string' ? utf8(data) : data, path)];
  });
  return fileTree('folder', new Map(sources));
}

function safetensors(...names: string[]): Uint8Array {
  const plan = encodeSafetensors(names.map((name) => ({ name, dtype: 'u8' as const, shape: [1] })));
  return concat(
    plan.header,
    names.map((_, i) => i),
  );
}

test('opens a tokenizer folder of the official scripts', async () => {
  const folder = await openFolder(goldenPath('A/tokenizer'));
  const read = await readOfficialFolder(folder, 'tokenizer');
  try {
    expect(read.file).toMatch(/0000320\.pt$/);
    expect(read.config).toMatchObject({ codebook_size: 128, kl_loss_weight: 1e-6, causal_num: null });
    expect(read.args).toMatchObject({
      lr: 1e-4,
      weight_decay: 1e-4,
      degradation_power: 1.5,
      exp_index: null,
    });
    expect(read.vision).toMatchObject({ encoder: { num_attention_heads: 3 } });
    expect(read.weights.has('quantize.embedding.weight')).toBe(true);
    expect([...read.weights.keys()].filter((name) => name.startsWith('repa_model.'))).toEqual([]);
  } finally {
    await read.close();
  }
  const [weight] = read.weights.values();
  expect((await refusal(() => weight.read())).code).toBe('closed');
});

test('opens an AR folder: ema unless told otherwise', async () => {
  const folder = await openFolder(goldenPath('A/ar'));
  const ema = await readOfficialFolder(folder, 'ar');
  const model = await readOfficialFolder(folder, 'ar', { key: 'model' });
  const safe = await readOfficialFolder(folder, 'ar', { weights: 'ema.safetensors' });
  try {
    expect(ema.args).toMatchObject({ lr: 1e-4, weight_decay: 5e-2, gpt_ckpt: null, compile: true });
    expect(ema.vision).toBeUndefined();
    const dtypes = [ema, model, safe].map(({ weights }) => weights.get('output.weight')?.dtype);
    expect(dtypes).toEqual(['f32', 'bf16', 'bf16']);
    const values = [ema, safe].map(({ weights }) => readFloat32(weights.get('output.weight')!));
    expect(await values[0]).toEqual(await values[1]);
  } finally {
    await Promise.all([ema, model, safe].map((opened) => opened.close()));
  }
});

test.each(['tokenizer', 'ar'] as const)('opens the trained %s that comes with the library', async (kind) => {
  const read = await readOfficialFolder(await openFolder(fashionPath(kind)), kind);
  expect(read.weights.size).toBeGreaterThan(20);
  await read.close();
});

test('takes the newest checkpoint by number, not by name', async () => {
  const files = {
    'checkpoints/900.pt': plain,
    'checkpoints/0001000.pt': plain,
    'checkpoints/last.pt': plain,
  };
  expect((await readOfficialFolder(tree({ 'config.json': '{}', ...files }), 'tokenizer')).file).toBe(
    'checkpoints/0001000.pt',
  );
  const chosen = await readOfficialFolder(tree({ 'config.json': '{}', ...files }), 'tokenizer', {
    weights: 'checkpoints/last.pt',
  });
  expect(chosen.file).toBe('checkpoints/last.pt');
});

test('takes a single .safetensors where there is no checkpoint', async () => {
  const files = { 'config.json': '{}', 'model.safetensors': safetensors('module.w', 'repa_model.x') };
  for (const kind of ['tokenizer', 'ar'] as const) {
    const read = await readOfficialFolder(tree(files), kind);
    expect([...read.weights.keys()]).toEqual(['w']);
    expect(read.args).toBeUndefined();
  }
  const ar = await readOfficialFolder(tree({ ...files, 'ema.safetensors': safetensors('e') }), 'ar');
  expect([...ar.weights.keys()]).toEqual(['e']);
});

test('falls back: model for an AR file without ema, the arguments inside the .pt without config.yaml', async () => {
  const namespace = [...op.global('argparse', 'Namespace'), ...op.emptyTuple, ...op.newobj];
  const args = [...namespace, ...op.dict(op.text('lr'), op.float(0.5)), ...op.build];
  const bytes = torch(op.text('model'), dict('w'), op.text('ema'), op.none, op.text('args'), args);
  const read = await readOfficialFolder(tree({ 'config.json': '{}', 'checkpoints/1.pt': bytes }), 'ar');
  expect([...read.weights.keys()]).toEqual(['w']);
  expect(read.args).toEqual({ lr: 0.5 });
});

test.each(['module', 'state_dict', 'model'])('the state dict may be called %s', async (key) => {
  const bytes = torch(op.text(key), dict('module.w'), op.text('epoch'), op.int(3));
  for (const kind of ['tokenizer', 'ar'] as const) {
    const read = await readOfficialFolder(tree({ 'config.json': '{}', 'checkpoints/1.pt': bytes }), kind);
    expect([...read.weights.keys()]).toEqual(['w']);
  }
});

test('a file may hold nothing but the state dict', async () => {
  const bytes = buildTorch(pickle(dict('a', '_orig_mod.b')));
  for (const kind of ['tokenizer', 'ar'] as const) {
    const read = await readOfficialFolder(tree({ 'config.json': '{}', 'checkpoints/1.pt': bytes }), kind);
    expect([...read.weights.keys()]).toEqual(['a', 'b']);
    expect(read.args).toBeUndefined();
  }
});

const object = (name: string) => [...op.global('x', name), ...op.emptyTuple, ...op.reduce];

test('an average that is no state dict is not passed over', async () => {
  const bytes = torch(op.text('model'), dict('w'), op.text('ema'), object('Average'));
  const files = { 'config.json': '{}', 'checkpoints/1.pt': bytes };
  const error = await refusal(() => readOfficialFolder(tree(files), 'ar'));
  expect(error.message).toMatch(/no state dict "ema".*only "x\.Average" of Python/);
  const model = await readOfficialFolder(tree(files), 'ar', { key: 'model' });
  expect([...model.weights.keys()]).toEqual(['w']);
  expect((await readOfficialFolder(tree(files), 'tokenizer')).weights.size).toBe(1);
});

test('arguments that cannot be read matter to whoever needs them', async () => {
  const bytes = torch(op.text('model'), dict('w'), op.text('args'), object('Config'));
  const files = { 'config.json': '{}', 'checkpoints/1.pt': bytes };
  const read = await readOfficialFolder(tree(files), 'ar');
  const error = await refusal(() => read.args);
  expect(error).toMatchObject({ code: 'format', file: 'checkpoints/1.pt', entry: 'args' });
  expect(error.message).toMatch(/only "x\.Config" of Python.*put a config\.yaml/);
  const beside = await readOfficialFolder(tree({ ...files, 'config.yaml': 'lr: 0.5' }), 'ar');
  expect(beside.args).toEqual({ lr: 0.5 });
  const mixed = torch(
    op.text('model'),
    dict('w'),
    op.text('args'),
    op.dict(op.text('lr'), op.float(0.5), op.text('out'), object('Path')),
  );
  const some = await readOfficialFolder(tree({ 'config.json': '{}', 'checkpoints/1.pt': mixed }), 'ar');
  const fields = new ConfigFields(some.args, { file: 'args' });
  expect(fields.positive('lr')).toBe(0.5);
  const path = await refusal(() => fields.positive('out'));
  expect(path.message).toMatch(/args: out: is "<something that only .*x\.Path.*"; must be a number/);
});

test('never reads the frozen features', async () => {
  const data = pickle(
    op.dict(
      op.text('model'),
      op.dict(op.text('w'), tensor(), op.text('module.repa_model.x'), tensor({ key: '1' })),
    ),
  );
  const bytes = buildTorch(data, { 0: Array(8).fill(0), 1: Array(8).fill(0xee) });
  const { source, reads } = countingSource(bytes, '1.pt');
  const read = await readOfficialFolder(
    tree({ 'config.json': '{}', 'checkpoints/1.pt': source }),
    'tokenizer',
  );
  for (const weight of read.weights.values()) await weight.read();
  const frozen = bytes.indexOf(0xee);
  expect([...read.weights.keys()]).toEqual(['w']);
  expect(reads.some(({ offset, length }) => offset <= frozen && frozen < offset + length)).toBe(false);
});

const faults: [string, Record<string, string | Uint8Array>, string, RegExp][] = [
  ['no config.json', { 'config.yaml': '' }, 'io', /no config\.json/],
  ['no weights', { 'config.json': '{}' }, 'io', /neither checkpoints\/<steps>\.pt nor model\.safetensors/],
  ['JSON that is a list', { 'config.json': '[]' }, 'format', /config\.json: it must hold one object/],
  ['broken JSON', { 'config.json': '{' }, 'format', /not JSON/],
  ['bytes that are not UTF-8', { 'config.json': Uint8Array.of(0x22, 0xff) }, 'format', /UTF-8/],
  ['a config of 2 MB', { 'config.json': ' '.repeat(2_000_000) }, 'limit', /too many/],
  [
    'deep JSON',
    { 'config.json': `{"a":${'['.repeat(400_000)}${']'.repeat(400_000)}}` },
    'limit',
    /32 levels/,
  ],
  [
    'YAML that is a text',
    { 'config.json': '{}', 'config.yaml': 'text' },
    'format',
    /config\.yaml: it must hold/,
  ],
  [
    'YAML with a Python object',
    { 'config.json': '{}', 'config.yaml': 'a: !!python/object:os.system x' },
    'format',
    /not plain YAML/,
  ],
  [
    'YAML with duplicate keys',
    { 'config.json': '{}', 'config.yaml': 'a: 1\na: 2' },
    'format',
    /not plain YAML/,
  ],
  ['YAML with an alias bomb', { 'config.json': '{}', 'config.yaml': bomb() }, 'format', /alias/],
  [
    'deep YAML',
    { 'config.json': '{}', 'config.yaml': `a: ${'['.repeat(20_000)}` },
    'format',
    /not plain YAML/,
  ],
  [
    'nested YAML',
    { 'config.json': '{}', 'config.yaml': `a: ${'['.repeat(40)}${']'.repeat(40)}` },
    'limit',
    /32 levels/,
  ],
  [
    'a checkpoint without a model',
    { 'config.json': '{}', 'checkpoints/1.pt': torch(op.text('x'), op.none) },
    'weights',
    /no state dict "model"/,
  ],
  [
    'a checkpoint that is a number',
    { 'config.json': '{}', 'checkpoints/1.pt': buildTorch(pickle(op.int(1))) },
    'weights',
    /no state dict/,
  ],
  [
    'a model without weights',
    { 'config.json': '{}', 'checkpoints/1.pt': torch(op.text('model'), dict()) },
    'weights',
    /no weights/,
  ],
  [
    'two names that become one',
    { 'config.json': '{}', 'model.safetensors': safetensors('w', 'module.w') },
    'weights',
    /: w: two weights/,
  ],
];

function bomb(): string {
  const rows = ['a0: &a0 [x, x, x, x, x, x, x, x, x]'];
  for (let i = 1; i < 9; i++)
    rows.push(
      `a${i}: &a${i} [${Array(9)
        .fill(`*a${i - 1}`)
        .join(', ')}]`,
    );
  return rows.join('\n');
}

test.each(faults)('refuses %s', async (_, files, code, message) => {
  const error = await refusal(() => readOfficialFolder(tree(files), 'tokenizer'));
  expect(error.message).toMatch(message);
  expect(error.code).toBe(code);
});

test('closes the weights when it refuses them', async () => {
  let closed = 0;
  const source: ByteSource = { ...bytesSource(utf8('no zip'), '1.pt'), close: async () => void closed++ };
  await refusal(() =>
    readOfficialFolder(tree({ 'config.json': '{}', 'checkpoints/1.pt': source }), 'tokenizer'),
  );
  expect(closed).toBe(1);
});

test.each(['../x', 'a/../../x', '/etc/passwd', 'a\\b', 'a\0b', 'C:/x', '', 'a//b', './a'])(
  'neither kind of folder opens %j',
  async (path) => {
    const trees = [tree({ 'config.json': '{}' }), await openFolder(goldenPath('A/ar'))];
    for (const folder of trees) {
      expect((await refusal(() => folder.open(path))).code).toBe('invalid-argument');
      expect((await refusal(() => folder.exists(path))).code).toBe('invalid-argument');
      if (path !== '') expect((await refusal(() => folder.list(path))).code).toBe('invalid-argument');
    }
    expect(() => tree({ [path]: '' })).toThrow(DetailFlowError);
  },
);

test('both kinds of folder list and find alike', async () => {
  const disk = await openFolder(goldenPath('A/ar'));
  const memory = tree({
    'config.json': '{}',
    'config.yaml': '',
    'ema.safetensors': '',
    'checkpoints/0000320.pt': '',
  });
  for (const folder of [disk, memory]) {
    expect(await folder.list('')).toEqual(['config.json', 'config.yaml', 'ema.safetensors']);
    expect(await folder.list('checkpoints')).toEqual(['0000320.pt']);
    expect(await folder.list('nothing')).toEqual([]);
    expect(await folder.exists('checkpoints')).toBe(false);
    expect(await folder.exists('checkpoints/0000320.pt')).toBe(true);
    expect((await refusal(() => folder.open('nothing'))).code).toBe('io');
  }
});

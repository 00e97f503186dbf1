/** Who may import whom: arrows only downwards (ARCHITECTURE.md), no circles. */
const only = (name, from, allowed) => ({
  name,
  severity: 'error',
  from: { path: `^packages/${from}/src`, pathNot: '\\.test\\.ts$' },
  to: {
    path: '^packages/',
    pathNot: [from, ...allowed].map((package_) => `^packages/${package_}/`),
  },
});

const models = ['core'];
module.exports = {
  forbidden: [
    { name: 'no-circular', severity: 'error', from: {}, to: { circular: true } },
    {
      name: 'no-barrel-inside',
      comment: 'Inside a package import the file that has the thing, not index.ts.',
      severity: 'error',
      from: { path: '^packages/([^/]+)/src', pathNot: '\\.test\\.ts$' },
      to: { path: '^packages/$1/src/index\\.ts$' },
    },
    {
      name: 'no-undeclared-package',
      severity: 'error',
      from: { path: '^packages/[^/]+/src', pathNot: '\\.test\\.ts$' },
      to: {
        dependencyTypes: ['npm-no-pkg', 'npm-unknown', 'unknown'],
        pathNot: '^node:|^node_modules/webgpu/',
      },
    },
    only('core-imports-nothing', 'core', []),
    only('onnx-imports-core', 'onnx', ['core']),
    only('backend-node-imports-core-and-onnx', 'backend-node', ['core', 'onnx']),
    only('backend-webgpu-imports-core', 'backend-webgpu', ['core']),
    only('model-fashion-32-imports-nothing', 'model-fashion-32', []),
    only('tokenizer-imports-blocks', 'tokenizer', ['core', 'blocks']),
    only('blocks-import-core', 'blocks', models),
    only('ar-model-imports-blocks', 'ar-model', ['core', 'blocks']),
    only('var-imports-blocks-and-sampler', 'var', ['core', 'blocks', 'checkpoint', 'sampler']),
    only('softvq-imports-blocks', 'softvq', ['core', 'blocks', 'checkpoint']),
    only('llamagen-imports-blocks', 'llamagen', ['core', 'blocks', 'checkpoint']),
    only('hub-imports-core-and-checkpoint', 'hub', ['core', 'checkpoint']),
    only('serve-imports-sampler', 'serve', ['core', 'checkpoint', 'data', 'sampler']),
    only('queue-imports-core-checkpoint-and-data', 'queue', ['core', 'checkpoint', 'data']),
    only('ai-sdk-provider-imports-core-and-facade', 'ai-sdk-provider', ['core', 'detailflow']),
    only('checkpoint-imports-core', 'checkpoint', models),
    only('sampler-imports-core', 'sampler', models),
    only('data-imports-core-and-checkpoint', 'data', ['core', 'checkpoint']),
    only('features-import-blocks', 'features', ['core', 'blocks']),
    only('eval-imports-models-and-features', 'eval', [
      'core',
      'blocks',
      'checkpoint',
      'data',
      'features',
      'tokenizer',
      'sampler',
    ]),
    only('train-imports-models-and-features', 'train', [
      'core',
      'blocks',
      'checkpoint',
      'data',
      'eval',
      'features',
      'tokenizer',
      'ar-model',
      'sampler',
    ]),
    {
      name: 'core-runs-on-onnxruntime-common-alone',
      severity: 'error',
      from: { path: '^packages/core/src', pathNot: '\\.test\\.ts$' },
      to: { path: 'node_modules/(?!onnxruntime-common)' },
    },
    {
      name: 'no-node-in-platform-neutral-packages',
      severity: 'error',
      from: {
        path: '^packages/(core|onnx|tokenizer|ar-model|blocks|llamagen|var|softvq|sampler|features|backend-webgpu|model-fashion-32)/src',
        pathNot: '\\.test\\.ts$',
      },
      to: { dependencyTypes: ['core'] },
    },
  ],
  options: {
    tsPreCompilationDeps: false,
    tsConfig: { fileName: 'tsconfig.json' },
    doNotFollow: { path: '(^|/)(node_modules|dist)/' },
    exclude: { path: 'tsup\\.(base|config)\\.ts$' },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'types', 'node'] },
  },
};

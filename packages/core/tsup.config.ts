import { library } from '../../tsup.base';

export default library({
  entry: {
    index: 'src/index.ts',
    gradients: 'src/gradients/index.ts',
    losses: 'src/losses.ts',
    reference: 'src/reference.ts',
    'rounded-weight': 'src/rounded-weight.ts',
    conformance: 'src/conformance/index.ts',
    'safetensors-writer': 'src/safetensors-writer.ts',
  },
  // The types name Symbol.asyncDispose, which no ES20xx library of TypeScript has yet.
  dts: { banner: '/// <reference lib="esnext.disposable" />' },
});

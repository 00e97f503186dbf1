import { library } from '../../tsup.base';

export default library({
  entry: {
    index: 'src/index.ts',
    worker: 'src/worker.ts',
    'worker-process': 'src/worker-process.ts',
    'probe-child': 'src/probe-child.ts',
  },
  dts: { entry: { index: 'src/index.ts' } },
});

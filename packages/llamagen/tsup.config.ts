import { library } from '../../tsup.base';

export default library({ entry: { index: 'src/index.ts', trainable: 'src/trainable.ts' } });

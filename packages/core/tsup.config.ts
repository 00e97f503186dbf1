import { library } from '../../tsup.base';

export default library({ entry: { index: 'src/index.ts', conformance: 'src/conformance/index.ts' } });

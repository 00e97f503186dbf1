import { t5Library } from './t5-library';
import { testTextExamples } from './text-examples';

// With a stand-in for transformers.js; text-example.slow.test.ts takes the real one.

testTextExamples(() => t5Library);

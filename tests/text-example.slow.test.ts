import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { beforeAll } from 'vitest';
import { testFolder } from './cli';
import { run } from './packed-packages';
import { writeT5Folder } from './t5-folder';
import { testTextExamples, WIDTH } from './text-examples';

// With transformers.js itself, and a T5 of a few kilobytes where it looks for models. Needs the npm registry.

const at = testFolder();
const library = at('node_modules/@huggingface/transformers');
beforeAll(async () => {
  await run(at('.'), 'npm', 'install', '--ignore-scripts', '--no-audit', '@huggingface/transformers@4.3.2');
  writeT5Folder(path.join(library, 'models', 'Xenova', 'flan-t5-xl'), WIDTH);
});

testTextExamples(() => pathToFileURL(path.join(library, 'dist', 'transformers.node.mjs')).href);

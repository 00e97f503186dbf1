import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitepress';
import llms from 'vitepress-plugin-llms';
import { sidebar } from '../tools/navigation.mjs';

const docs = fileURLToPath(new URL('..', import.meta.url));
const manifest = JSON.parse(readFileSync(path.join(docs, '..', 'package.json'), 'utf8'));
const repository = manifest.repository.url.replace(/^git\+|\.git$/g, '');
const referenceSidebar = path.join(docs, 'build', 'pages', 'reference', 'typedoc-sidebar.json');
const reference = existsSync(referenceSidebar) ? JSON.parse(readFileSync(referenceSidebar, 'utf8')) : [];

export default defineConfig({
  title: 'DetailFlow for TypeScript',
  description: 'Autoregressive image generation, coarse to fine, in Node and in the browser.',
  lang: 'en',
  // Where the site does not lie at the root of its host, as on GitHub's pages.
  base: (process.env.DOCS_BASE ?? '/') as `/${string}/`,
  srcDir: 'build/pages',
  outDir: 'build/site',
  cleanUrls: false,
  metaChunk: true,
  lastUpdated: false,
  head: [['link', { rel: 'icon', href: 'data:,' }]],
  markdown: {
    theme: { light: 'github-light-high-contrast', dark: 'github-dark-high-contrast' },
    config: (md) => {
      // A heading of a table that says nothing is none.
      md.core.ruler.push('empty-headings', ({ tokens }) => {
        for (const [i, token] of tokens.entries()) {
          if (token.type === 'th_open' && tokens[i + 1].content === '') token.tag = tokens[i + 2].tag = 'td';
        }
      });
    },
  },
  themeConfig: {
    search: { provider: 'local' },
    outline: [2, 3],
    nav: [
      { text: 'Guide', link: '/guide/start', activeMatch: '^/guide/' },
      { text: 'Reference', link: '/reference/', activeMatch: '^/reference/' },
      { text: 'Troubleshooting', link: '/guide/troubleshooting' },
      { text: 'Changelog', link: '/house/changelog' },
    ],
    sidebar: {
      '/reference/': [{ text: 'Reference', link: '/reference/', items: reference }],
      '/': sidebar(),
    },
    socialLinks: [{ icon: 'github', link: repository }],
    footer: { message: 'Apache-2.0' },
  },
  vite: {
    plugins: [llms({ ignoreFiles: ['reference/**'] })],
    // Node's way to WebGPU is imported where there is no navigator.gpu, which is never in a page.
    worker: { format: 'es', rollupOptions: { external: ['webgpu'] } },
    build: { target: 'es2022', chunkSizeWarningLimit: 4000 },
  },
});

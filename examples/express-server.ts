// An Express server with pictures below /images. Run from the repository root: npx tsx examples/express-server.ts [PORT]
import type { AddressInfo } from 'node:net';
import { createImageApp } from '@detailflow/serve';
import { getRequestListener } from '@hono/node-server';
import { load } from 'detailflow';
import express from 'express';

const model = await load('@detailflow/model-fashion-32');
const images = createImageApp({ model, pictures: 4 });
await images.ready;

const app = express();
app.get('/', (_request, response) => {
  response.type('text').send('pictures: POST /images/v1/images/generations\n');
});
app.use(
  '/images',
  getRequestListener((request) => images.fetch(request)),
);

const server = app.listen(Number(process.argv[2] ?? 3000), '127.0.0.1', () => {
  console.log(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
});
process.once('SIGTERM', async () => {
  const { pictures } = await images.drain(30);
  server.close();
  await model.dispose();
  console.log(`stopped, ${pictures} pictures unfinished`);
});

// A route of Next.js that serves pictures: put it into app/images/[...path]/route.ts, and ask for /images/v1/images/generations.
// Nothing of Next.js is imported: its routes are functions from a Request to a Response.
import { createImageApp } from '@detailflow/serve';
import { load } from 'detailflow';

export const runtime = 'nodejs'; // ONNX Runtime is native code
export const dynamic = 'force-dynamic';

const app = load('@detailflow/model-fashion-32').then((model) => createImageApp({ model, pictures: 4 }));

/** Hands a request on, without the folder of the route in its address. */
async function handle(request: Request): Promise<Response> {
  const { pathname, search, origin } = new URL(request.url);
  const address = new URL(pathname.replace(/^\/images/, '') + search, origin);
  const images = await app;
  await images.ready;
  return images.fetch(new Request(address, request));
}

export { handle as GET, handle as POST };

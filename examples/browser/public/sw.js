// Keeps everything that the page has loaded, so that it works without a network the next time.
const CACHE = 'detailflow-1';

self.addEventListener('install', () => self.skipWaiting());
self.addEventListener('activate', (event) => event.waitUntil(self.clients.claim()));

self.addEventListener('fetch', (event) => {
  const { request } = event;
  if (new URL(request.url).origin !== self.location.origin) return;
  if (request.method === 'GET') event.respondWith(answer(event));
  if (request.method === 'HEAD') event.respondWith(headOf(request));
});

/** Whether a file is there, and how large. */
async function headOf(request) {
  try {
    return await fetch(request);
  } catch (error) {
    const kept = await (await caches.open(CACHE)).match(new Request(request.url));
    if (kept) return new Response(null, { status: kept.status, headers: kept.headers });
    throw error;
  }
}

/** Files that were taken from the network since this worker started: what is kept of them is current. */
const current = new Set();

/** From the network, and from what is kept where there is none; of a file in parts the whole is kept. */
async function answer(event) {
  const { request } = event;
  const cache = await caches.open(CACHE);
  const whole = new Request(request.url);
  const isPart = request.headers.has('range');
  if (isPart && current.has(request.url)) {
    const kept = await cache.match(whole);
    if (kept) return kept;
  }
  try {
    const response = await fetch(isPart ? whole : request);
    if (response.status === 200) {
      // While the page reads it, so that the page can show how much has come.
      const kept = cache.put(whole, response.clone()).then(() => current.add(request.url));
      event.waitUntil(kept.catch(() => {})); // without room there is no copy
    }
    return response;
  } catch (error) {
    const kept = await cache.match(whole);
    if (kept) return kept;
    throw error;
  }
}

import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type Model, pictureFromPixels, readImages } from 'detailflow';

/** A request as the stand-in got it. */
export interface SeenRequest {
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
  readonly fields: Readonly<Record<string, unknown>>;
}

export interface TestImagesApi {
  readonly url: string;
  readonly seen: SeenRequest[];
  /** Answers the next requests with these instead. */
  readonly answers: { status: number; headers?: Record<string, string>; body: string }[];
  /** Takes requests and never answers. */
  hang: boolean;
  close(): Promise<void>;
}

/** A stand-in of OpenAI's Images API that draws with a model: generations as JSON, edits and variations as forms. */
export async function startImagesApi(model: Model, apiKey: string): Promise<TestImagesApi> {
  const api = { seen: [] as SeenRequest[], answers: [] as TestImagesApi['answers'], hang: false };
  const server = createServer(async (incoming, outgoing) => {
    const chunks: Buffer[] = [];
    for await (const chunk of incoming) chunks.push(chunk);
    const body = Buffer.concat(chunks);
    const path = incoming.url ?? '';
    const send = (status: number, value: unknown, headers: Record<string, string> = {}) => {
      outgoing.writeHead(status, { 'content-type': 'application/json', 'x-request-id': 'r1', ...headers });
      outgoing.end(typeof value === 'string' ? value : JSON.stringify(value));
    };
    const refuse = (status: number, message: string) =>
      send(status, { error: { message, type: 'invalid_request_error' } });
    try {
      let fields: Record<string, unknown>;
      let image: Uint8Array | undefined;
      if (path.endsWith('/generations')) fields = JSON.parse(body.toString());
      else {
        const form = await new Response(body, {
          headers: { 'content-type': incoming.headers['content-type'] ?? '' },
        }).formData();
        const texts: Record<string, unknown> = {};
        form.forEach((value, name) => {
          if (typeof value === 'string') texts[name] = value;
        });
        fields = texts;
        const file = form.get('image');
        if (file instanceof Blob) image = new Uint8Array(await file.arrayBuffer());
      }
      api.seen.push({ path, headers: incoming.headers, fields });
      if (api.hang) return;
      const answer = api.answers.shift();
      if (answer) return send(answer.status, answer.body, answer.headers);
      if (incoming.headers.authorization !== `Bearer ${apiKey}`) return refuse(401, 'a key is missing');
      if (path.endsWith('/edits')) return refuse(400, 'the tokens of this model have no places');
      const n = Number(fields.n ?? 1);
      if (n > 10) return refuse(400, `n is ${n}; 10 is the most here`);
      const label = model.card?.classNames?.indexOf(String(fields.prompt ?? fields.class)) ?? -1;
      if (label < 0 && !image) return refuse(400, 'prompt is the name of no class');
      const seed = Number(fields.seed ?? 0);
      const cfg = fields.cfg === undefined ? model.cfg : Number(fields.cfg);
      const tokens = fields.tokens === undefined ? undefined : Number(fields.tokens);
      const steps = image
        ? model.vary(await readImages([image], 32), {
            ...{ keepTokens: Number(fields.keep ?? 16), count: n, seed, cfg },
            labels: label < 0 ? undefined : [label],
          })
        : model.generate({ labels: Array(n).fill(label), seed, cfg, tokens });
      for await (const step of steps) {
        if (step.count < step.total) continue;
        const pixels = await step.pixels();
        const data = [];
        for (let i = 0; i < n; i++) {
          data.push({ b64_json: Buffer.from(await pictureFromPixels(pixels, i).toPng()).toString('base64') });
        }
        send(200, { created: 1, data });
      }
    } catch (error) {
      refuse(500, String(error));
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return Object.assign(api, {
    url: `http://127.0.0.1:${port}/v1`,
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  });
}

// The page: controls on the left, pictures in the middle, a picture of one's own on the right.
import type { Job, ModelFacts, Preview, Reply, Request } from './protocol';

const find = <T extends HTMLElement>(id: string) => document.getElementById(id) as T;
const input = (id: string) => find<HTMLInputElement>(id);
const button = (id: string) => find<HTMLButtonElement>(id);
const status = find('status');
const canvas = find<HTMLCanvasElement>('picture');
const original = find<HTMLCanvasElement>('original');

const worker = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' });
const post = (request: Request) => worker.postMessage(request);

let facts: ModelFacts | undefined;
/** The job whose pictures are shown, and whether it still runs. */
let current: { readonly id: number; readonly title: string; isRunning: boolean } | undefined;
/** Everything the current job has drawn, coarse to fine. */
let shown: Preview[] = [];
/** The file of a picture of one's own. */
let chosen: File | undefined;
/** The picture of one's own, float32 [3, S, S]. */
let own: Float32Array | undefined;
let jobs = 0;

worker.addEventListener('message', ({ data }: MessageEvent<Reply>) => {
  if (data.kind === 'progress') say(data.text);
  else if (data.kind === 'unavailable') say(data.message, 'problem');
  else if (data.kind === 'ready') begin(data.facts);
  else if (data.id !== current?.id)
    return; // of an earlier job
  else if (data.kind === 'preview') add(data.preview);
  else finish(data);
});
worker.addEventListener('error', ({ message }) => say(`The worker failed: ${message}`, 'problem'));

if ('serviceWorker' in navigator && import.meta.env.PROD) navigator.serviceWorker.register('./sw.js');
if ('gpu' in navigator) post({ kind: 'load', model: new URL('./model/', location.href).href });
else {
  say(
    'This browser has no WebGPU. Current Chrome, Edge, Safari and Firefox have it; on Linux it may have to be switched on.',
    'problem',
  );
}

function say(text: string, kind: 'news' | 'problem' = 'news') {
  status.textContent = text;
  status.classList.toggle('problem', kind === 'problem');
}

function begin(found: ModelFacts) {
  facts = found;
  const names = found.classNames.map((name, i) => {
    const label = document.createElement('label');
    const radio = Object.assign(document.createElement('input'), {
      ...{ type: 'radio', name: 'class', value: String(i), checked: i === found.classNames.length - 1 },
    });
    label.append(radio, name);
    return label;
  });
  find('classes').append(...names);
  find<HTMLFieldSetElement>('classes').disabled = false;
  input('cfg').value = String(found.cfg);
  input('keep').max = String(found.tokens);
  input('keep').value = String(Math.min(8, found.tokens));
  original.width = found.imageSize;
  original.height = found.imageSize;
  for (const id of ['file', 'keep']) input(id).disabled = false;
  button('generate').disabled = false;
  find('about').textContent = `${found.name}: ${found.description} ${found.attribution}`;
  showValues();
  say(`Ready, on ${found.adapter}.`);
}

function showValues() {
  find('cfg-value').textContent = Number(input('cfg').value).toFixed(1);
  find('keep-value').textContent = `${input('keep').value} of ${facts?.tokens ?? '?'} tokens`;
}
for (const id of ['cfg', 'keep']) input(id).addEventListener('input', showValues);

find<HTMLFormElement>('controls').addEventListener('submit', (event) => {
  event.preventDefault();
  const form = new FormData(event.target as HTMLFormElement);
  const label = Number(form.get('class'));
  const count = Number(form.get('count'));
  start(`${facts?.classNames[label]}`, {
    ...{ kind: 'generate', labels: Array(count).fill(label), seed: Number(input('seed').value) },
    cfg: Number(input('cfg').value),
  });
});

button('dice').addEventListener('click', () => {
  input('seed').value = String(Math.floor(1e6 * Math.random()));
});
button('cancel').addEventListener('click', () => current && post({ kind: 'cancel', id: current.id }));
button('vary').addEventListener('click', () => {
  if (!own) return;
  const [keepTokens, seed] = [Number(input('keep').value), Number(input('seed').value)];
  start('a variation', { kind: 'vary', pixels: own, keepTokens, seed, count: 9 });
});

function start(title: string, job: Job) {
  if (current?.isRunning) post({ kind: 'cancel', id: current.id });
  current = { id: ++jobs, title, isRunning: true };
  shown = [];
  input('tokens').disabled = true;
  button('cancel').disabled = false;
  find('figures').textContent = '';
  say('Drawing ...');
  post({ kind: 'run', id: current.id, job });
}

/** Shows a preview as it comes, unless an earlier one is being looked at. */
function add(preview: Preview) {
  const slider = input('tokens');
  const isLast = Number(slider.value) >= shown.length - 1;
  shown.push(preview);
  slider.max = String(shown.length - 1);
  slider.disabled = shown.length < 2;
  if (isLast || shown.length === 1) slider.value = String(shown.length - 1);
  draw();
  say(`${preview.count} of ${preview.total} tokens after ${seconds(preview.elapsed)}`);
}

function finish(end: Extract<Reply, { kind: 'done' | 'failed' }>) {
  if (current) current.isRunning = false;
  button('cancel').disabled = true;
  if (end.kind === 'done') {
    const [first] = shown;
    say(
      `Done in ${seconds(end.elapsed)}; the first preview came after ${seconds(first?.elapsed ?? end.elapsed)}.`,
    );
  } else if (end.isCancelled) say('Cancelled.');
  else say(end.message, 'problem');
}

const seconds = (ms: number) => `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;

input('tokens').addEventListener('input', draw);

function draw() {
  const preview = shown[Number(input('tokens').value)];
  if (!preview || !facts) return;
  const { pictures, side, count, total, psnr } = preview;
  const columns = Math.ceil(Math.sqrt(pictures.length));
  const [size, gap] = [facts.imageSize, pictures.length > 1 ? 2 : 0];
  canvas.width = columns * (size + gap) - gap;
  canvas.height = canvas.width;
  const context = canvas.getContext('2d') as CanvasRenderingContext2D;
  context.imageSmoothingEnabled = false;
  for (const [i, data] of pictures.entries()) {
    const small = new OffscreenCanvas(side, side);
    small.getContext('2d')?.putImageData(new ImageData(data, side, side), 0, 0);
    const [x, y] = [(i % columns) * (size + gap), Math.floor(i / columns) * (size + gap)];
    context.drawImage(small, x, y, size, size);
  }
  find('tokens-value').textContent = `${count} of ${total}`;
  input('tokens').setAttribute('aria-valuetext', `${count} of ${total} tokens`);
  const figures = [`${side} x ${side} pixels`, ...(psnr === undefined ? [] : [`PSNR ${psnr.toFixed(1)} dB`])];
  find('figures').textContent = figures.join(', ');
  const what = pictures.length > 1 ? `${pictures.length} pictures` : 'A picture';
  canvas.setAttribute('aria-label', `${what} of ${current?.title}, ${count} of ${total} tokens`);
}

// A picture of one's own.
const drop = find('drop');
for (const name of ['dragenter', 'dragover'] as const) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.add('over');
  });
}
document.addEventListener('dragleave', () => drop.classList.remove('over'));
document.addEventListener('drop', (event) => {
  event.preventDefault();
  drop.classList.remove('over');
  const file = event.dataTransfer?.files[0];
  if (file) take(file);
});
input('file').addEventListener('change', () => {
  const file = input('file').files?.[0];
  if (file) take(file);
});
find('background').addEventListener('change', () => {
  if (chosen) take(chosen);
});

/** Shows a picture, fitted into the square of the model and laid on the background, and has it restored. */
async function take(file: File) {
  if (!facts) return;
  chosen = file;
  let bitmap: ImageBitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    say(`${file.name} is no picture that this browser can read.`, 'problem');
    return;
  }
  const { imageSize: size } = facts;
  const context = original.getContext('2d', { willReadFrequently: true }) as CanvasRenderingContext2D;
  const scale = size / Math.max(bitmap.width, bitmap.height);
  const [width, height] = [Math.max(1, bitmap.width * scale), Math.max(1, bitmap.height * scale)];
  const place = [(size - width) / 2, (size - height) / 2, width, height] as const;
  context.fillStyle = '#000';
  context.fillRect(0, 0, size, size);
  context.fillStyle = find<HTMLSelectElement>('background').value;
  context.fillRect(...place);
  context.imageSmoothingQuality = 'high';
  context.drawImage(bitmap, ...place);
  bitmap.close();
  const { data } = context.getImageData(0, 0, size, size);
  own = Float32Array.from(
    { length: 3 * size * size },
    (_, i) => data[4 * (i % (size * size)) + Math.floor(i / (size * size))] / 127.5 - 1,
  );
  original.setAttribute('aria-label', `Your picture ${file.name}, ${size} x ${size} pixels`);
  button('vary').disabled = false;
  start('your picture', { kind: 'reconstruct', pixels: own });
}

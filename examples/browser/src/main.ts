// The page: controls on the left, pictures in the middle, a picture of one's own on the right.
import { button, find, input, say, showShare } from './elements';
import { acceptPictures } from './own-picture';
import type { Job, ModelFacts, Reply, Request } from './protocol';
import { Stage } from './stage';

const worker = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' });
const post = (request: Request) => worker.postMessage(request);
const stage = new Stage();

/** The class of the first picture, where the model has it. */
const FIRST_CLASS = 'happy-face';

let facts: ModelFacts | undefined;
/** The job whose pictures are shown, and whether it still runs. */
let current: { readonly id: number; isRunning: boolean } | undefined;
/** The picture of one's own, float32 [3, S, S]. */
let own: Float32Array | undefined;
let jobs = 0;

worker.addEventListener('message', ({ data }: MessageEvent<Reply>) => {
  if (data.kind === 'progress') {
    say(data.text);
    showShare(data.share ?? 'busy');
  } else if (data.kind === 'unavailable') {
    say(data.message, 'problem');
    showShare(undefined);
  } else if (data.kind === 'ready') {
    showShare(undefined);
    begin(data.facts);
  } else if (data.id !== current?.id)
    return; // of an earlier job
  else if (data.kind === 'preview') {
    stage.add(data.preview);
    const { count, total, elapsed } = data.preview;
    say(`${count} of ${total} tokens after ${seconds(elapsed)}`);
  } else finish(data);
});
worker.addEventListener('error', ({ message }) => {
  say(`The worker failed: ${message}`, 'problem');
  showShare(undefined);
});

if ('serviceWorker' in navigator && import.meta.env.PROD) navigator.serviceWorker.register('./sw.js');
say('Loading the model ...');
post({ kind: 'load', model: new URL('./model/', location.href).href });

/** Shows what the model can do, and draws a first picture. */
function begin(found: ModelFacts) {
  facts = found;
  const firstClass = Math.max(0, found.classNames.indexOf(FIRST_CLASS));
  const names = found.classNames.map((name, i) => {
    const label = document.createElement('label');
    const radio = Object.assign(document.createElement('input'), {
      ...{ type: 'radio', name: 'class', value: String(i), checked: i === firstClass },
    });
    const sample = Object.assign(document.createElement('span'), { className: 'sample' });
    sample.style.setProperty('--row', String(i));
    sample.style.backgroundImage = `url(${new URL('./model/classes.png', location.href).href})`;
    label.append(radio, sample, name.replaceAll('-', ' '));
    return label;
  });
  find('classes').append(...names);
  find<HTMLFieldSetElement>('classes').disabled = false;
  input('cfg').value = String(found.cfg);
  input('keep').max = String(found.tokens);
  input('keep').value = String(Math.min(8, found.tokens));
  input('keep').disabled = false;
  button('generate').disabled = false;
  find('knows').textContent = `This model knows ${found.subject}, and makes that of every picture.`;
  find('about').textContent = `${found.name}, on ${found.device}: ${found.description} ${found.attribution}`;
  find('credits').hidden = false;
  find('note').textContent = found.note;
  find('note').hidden = found.note === '';
  acceptPictures({ size: found.imageSize, background: found.background }, (pixels) => {
    own = pixels;
    button('vary').disabled = false;
    start('your picture', { kind: 'reconstruct', pixels });
    stage.bringIntoView();
  });
  showValues();
  generate();
}

function showValues() {
  find('cfg-value').textContent = Number(input('cfg').value).toFixed(1);
  find('keep-value').textContent = `${input('keep').value} of ${facts?.tokens ?? '?'} tokens`;
}
for (const id of ['cfg', 'keep']) input(id).addEventListener('input', showValues);

const form = find<HTMLFormElement>('controls');
const count = () => Number(new FormData(form).get('count'));

function generate() {
  const label = Number(new FormData(form).get('class'));
  const seed = Number(input('seed').value);
  start(`${facts?.classNames[label]} ${seed}`, {
    ...{
      kind: 'generate',
      labels: Array<number>(count()).fill(label),
      seed,
      cfg: Number(input('cfg').value),
    },
  });
}

form.addEventListener('submit', (event) => {
  event.preventDefault();
  generate();
  stage.bringIntoView();
});
button('dice').addEventListener('click', () => {
  input('seed').value = String(Math.floor(1e6 * Math.random()));
});
button('cancel').addEventListener('click', () => current && post({ kind: 'cancel', id: current.id }));
button('vary').addEventListener('click', () => {
  if (!own) return;
  const [keepTokens, seed] = [Number(input('keep').value), Number(input('seed').value)];
  start('a variation', { kind: 'vary', pixels: own, keepTokens, seed, count: count() });
  stage.bringIntoView();
});

function start(title: string, job: Job) {
  if (!facts) return;
  if (current?.isRunning) post({ kind: 'cancel', id: current.id });
  current = { id: ++jobs, isRunning: true };
  stage.begin(title, facts.imageSize);
  button('cancel').disabled = false;
  say('Drawing ...');
  post({ kind: 'run', id: current.id, job });
}

function finish(end: Extract<Reply, { kind: 'done' | 'failed' }>) {
  if (current) current.isRunning = false;
  button('cancel').disabled = true;
  if (end.kind === 'done') {
    const first = seconds(stage.firstAfter ?? end.elapsed);
    say(`Done in ${seconds(end.elapsed)}; the first preview came after ${first}.`);
  } else if (end.isCancelled) say('Cancelled.');
  else say(end.message, 'problem');
}

const seconds = (ms: number) => `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;

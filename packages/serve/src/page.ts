/** The page at `/`: one file without anything from elsewhere. It writes what it gets as text, never as HTML. */
export const PAGE = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>DetailFlow</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 44rem; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff; }
  form { display: flex; flex-wrap: wrap; gap: .75rem; align-items: end; }
  label { display: grid; gap: .2rem; font-size: .85rem; }
  input, select, button { font: inherit; padding: .35rem .6rem; }
  input[type=number] { width: 6rem; }
  #pictures { display: flex; flex-wrap: wrap; gap: 1rem; margin-top: 1.5rem; }
  figure { margin: 0; } figcaption { font-size: .8rem; color: #555; }
  img { width: 256px; height: 256px; object-fit: contain; image-rendering: pixelated; background: #eee; display: block; }
  [hidden] { display: none; } label.text { flex: 1 1 100%; }
  #status { min-height: 1.5em; color: #555; } #status.error { color: #a00; }
</style>
<h1>DetailFlow</h1>
<form>
  <label>class <select name="class"></select></label>
  <label class="text" hidden>prompt <input name="prompt" type="text"></label>
  <label>pictures <input name="n" type="number" min="1" max="10" value="1"></label>
  <label>seed <input name="seed" type="number" min="0" placeholder="random"></label>
  <label>guidance <input name="cfg" type="number" min="0" step="0.1" placeholder="default"></label>
  <label>key <input name="key" type="password" autocomplete="off" placeholder="if there is one"></label>
  <button>draw</button> <button type="button" hidden>stop</button>
</form>
<p id="status" role="status"></p>
<div id="pictures"></div>
<script type="module">
const form = document.querySelector('form');
const [draw, stop] = form.querySelectorAll('button');
const state = document.querySelector('#status');
const pictures = document.querySelector('#pictures');
let controller;
let partials = 3;
const headers = () => ({
  'content-type': 'application/json',
  ...(form.elements.key.value && { authorization: 'Bearer ' + form.elements.key.value }),
});
const say = (text, isError = false) => { state.textContent = text; state.className = isError ? 'error' : ''; };
async function loadClasses() {
  const answer = await fetch('v1/models', { headers: headers() });
  const body = await answer.json();
  if (!answer.ok) return say(body.error.message, true);
  const [{ classes, class_names: names, previews, prompt, prompt_characters: most }] = body.data;
  partials = previews === 'none' ? 0 : 3; // its first tokens show nothing, and asked for previews it refuses
  const { class: select, prompt: text } = form.elements;
  [select.parentElement.hidden, text.parentElement.hidden] = [prompt === 'text', prompt !== 'text'];
  if (most) text.maxLength = most;
  const options = Array.from({ length: classes }, (_, i) => new Option(names?.[i] ?? 'class ' + i, i));
  form.elements.class.replaceChildren(...options);
  say('');
}
function show(event, names) {
  const index = event.image_index ?? 0;
  while (pictures.children.length <= index) {
    const figure = document.createElement('figure');
    figure.append(document.createElement('img'), document.createElement('figcaption'));
    pictures.append(figure);
  }
  const [img, caption] = pictures.children[index].children;
  img.src = 'data:image/png;base64,' + event.b64_json;
  img.alt = names;
  caption.textContent = event.size + ', seed ' + event.seed + (event.type.endsWith('completed') ? '' : ' ...');
}
form.elements.key.addEventListener('change', () => loadClasses().catch((error) => say(String(error), true)));
stop.addEventListener('click', () => controller?.abort());
form.addEventListener('submit', async (submitted) => {
  submitted.preventDefault();
  pictures.replaceChildren();
  controller = new AbortController();
  [draw.disabled, stop.hidden] = [true, false];
  say('waiting');
  const number = (name) => (form.elements[name].value === '' ? undefined : Number(form.elements[name].value));
  const isText = !form.elements.prompt.parentElement.hidden;
  const prompt = form.elements.prompt.value;
  const name = isText ? prompt : (form.elements.class.selectedOptions[0]?.text ?? '');
  try {
    const answer = await fetch('v1/images/generations', {
      method: 'POST', headers: headers(), signal: controller.signal,
      body: JSON.stringify({ ...(isText ? { prompt } : { class: number('class') }), n: number('n'), seed: number('seed'), cfg: number('cfg'),
        stream: true, partial_images: partials }),
    });
    if (!answer.ok) throw new Error((await answer.json()).error.message);
    let text = '';
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      text += part.value;
      const blocks = text.split('\\n\\n');
      text = blocks.pop();
      for (const block of blocks.filter((one) => one.startsWith('data: '))) {
        const event = JSON.parse(block.slice(6));
        if (event.error) throw new Error(event.error.message);
        show(event, name);
        say('drawing');
      }
    }
    say('');
  } catch (error) {
    say(error.name === 'AbortError' ? 'stopped' : error.message, error.name !== 'AbortError');
  } finally {
    [draw.disabled, stop.hidden] = [false, true];
  }
});
loadClasses().catch((error) => say(String(error), true));
</script>
</html>
`;

/** What the page may do: its own script and style, requests to this server, pictures as data. */
export const PAGE_HEADERS = {
  'content-security-policy':
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; img-src data:; form-action 'none'; frame-ancestors 'none'; base-uri 'none'",
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
} as const;

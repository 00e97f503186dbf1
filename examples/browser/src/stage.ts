// The pictures in the middle: everything a job has drawn, coarse to fine, and a slider through it.
import { button, canvas, contextOf, find, input } from './elements';
import type { Preview } from './protocol';

/** Pixels between pictures. */
const GAP = 2;
/** Saved pictures have at least as many pixels a side. */
const SAVED_SIDE = 512;

export class Stage {
  readonly #canvas = canvas('picture');
  readonly #slider = input('tokens');
  #shown: Preview[] = [];
  #title = '';
  #size = 64;

  constructor() {
    this.#slider.addEventListener('input', () => this.#draw());
    button('save').addEventListener('click', () => this.#save());
  }

  /** Begins with nothing. `size`: pixels a picture is shown with. */
  begin(title: string, size: number): void {
    this.#title = title;
    this.#size = size;
    this.#shown = [];
    this.#slider.disabled = true;
    find('figures').textContent = '';
  }

  /** Milliseconds until the first picture was there. */
  get firstAfter(): number | undefined {
    return this.#shown[0]?.elapsed;
  }

  /** Shows a preview as it comes, unless an earlier one is being looked at. */
  add(preview: Preview): void {
    const isLast = Number(this.#slider.value) >= this.#shown.length - 1;
    this.#shown.push(preview);
    this.#slider.max = String(this.#shown.length - 1);
    this.#slider.disabled = this.#shown.length < 2;
    if (isLast || this.#shown.length === 1) this.#slider.value = String(this.#shown.length - 1);
    button('save').disabled = false;
    this.#draw();
  }

  /** Scrolls to the pictures where they are out of sight, as on a phone. */
  bringIntoView(): void {
    const { top, bottom } = this.#canvas.getBoundingClientRect();
    if (top >= 0 && bottom <= window.innerHeight) return;
    const isCalm = matchMedia('(prefers-reduced-motion: reduce)').matches;
    find('stage').scrollIntoView({ block: 'start', behavior: isCalm ? 'auto' : 'smooth' });
  }

  #draw(): void {
    const preview = this.#shown[Number(this.#slider.value)];
    if (!preview) return;
    const { pictures, side, count, total, psnr } = preview;
    const columns = Math.ceil(Math.sqrt(pictures.length));
    const gap = pictures.length > 1 ? GAP : 0;
    this.#canvas.width = columns * (this.#size + gap) - gap;
    this.#canvas.height = this.#canvas.width;
    const context = contextOf(this.#canvas);
    context.imageSmoothingEnabled = false;
    for (const [i, data] of pictures.entries()) {
      const small = new OffscreenCanvas(side, side);
      small.getContext('2d')?.putImageData(new ImageData(data, side, side), 0, 0);
      const [x, y] = [i % columns, Math.floor(i / columns)].map((place) => place * (this.#size + gap));
      context.drawImage(small, x, y, this.#size, this.#size);
    }
    find('tokens-value').textContent = `${count} of ${total}`;
    this.#slider.setAttribute('aria-valuetext', `${count} of ${total} tokens`);
    const quality = psnr === undefined ? '' : `, PSNR ${psnr.toFixed(1)} dB`;
    find('figures').textContent = `${side} x ${side} pixels${quality}`;
    const what = pictures.length > 1 ? `${pictures.length} pictures` : 'A picture';
    this.#canvas.setAttribute('aria-label', `${what} of ${this.#title}, ${count} of ${total} tokens`);
  }

  /** What is shown as a PNG file, enlarged by whole pixels. */
  #save(): void {
    const scale = Math.ceil(SAVED_SIDE / this.#canvas.width);
    const large = document.createElement('canvas');
    large.width = this.#canvas.width * scale;
    large.height = large.width;
    const context = contextOf(large);
    context.imageSmoothingEnabled = false;
    context.drawImage(this.#canvas, 0, 0, large.width, large.height);
    const { count } = this.#shown[Number(this.#slider.value)];
    const name = `${this.#title.replace(/[^\p{L}\p{N}]+/gu, '-')}-${count}-tokens.png`;
    large.toBlob((blob) => {
      if (!blob) return;
      const href = URL.createObjectURL(blob);
      Object.assign(document.createElement('a'), { href, download: name }).click();
      setTimeout(() => URL.revokeObjectURL(href), 60_000);
    }, 'image/png');
  }
}

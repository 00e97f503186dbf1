// A picture of one's own: dropped, chosen, or one of the samples.
import { canvas, contextOf, find, input, say } from './elements';

/** Pictures of what the model knows, to try: the files in samples/. */
const samples: Readonly<Record<string, string>> = import.meta.glob('../samples/*.svg', {
  eager: true,
  query: '?url',
  import: 'default',
});

/** Takes a picture, fitted into the square of the model: float32 [3, size, size] in [-1, 1]. */
export type Taken = (pixels: Float32Array) => void;

let latest = 0;

/**
 * Listens for pictures; of several that are chosen quickly the last one counts, however long each takes to read.
 * @param model its size in pixels, and what its pictures are laid on
 */
export function acceptPictures(model: { size: number; background: string }, taken: Taken): void {
  const { size } = model;
  let again = () => {};
  const take = async (name: string, open: () => Promise<ImageBitmap>) => {
    again = () => void take(name, open);
    const turn = ++latest;
    const bitmap = await open().catch(() => undefined);
    if (turn !== latest) return bitmap?.close();
    if (!bitmap) return say(`${name} is no picture that this browser can read.`, 'problem');
    const pixels = fit(bitmap, model);
    bitmap.close();
    canvas('original').setAttribute('aria-label', `Your picture ${name}, ${size} x ${size} pixels`);
    taken(pixels);
  };
  const takeFile = (file: File | undefined) => file && take(file.name, () => createImageBitmap(file));

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
    takeFile(event.dataTransfer?.files[0]);
  });
  input('file').addEventListener('change', () => {
    takeFile(input('file').files?.[0]);
    input('file').value = ''; // the same file can be chosen again
  });

  find('background').addEventListener('change', () => again());

  for (const [path, src] of Object.entries(samples)) {
    const name = path.replace(/^.*\/|\.svg$/g, '');
    const picture = Object.assign(new Image(48, 48), { src, alt: name });
    const sample = Object.assign(document.createElement('button'), { type: 'button' });
    sample.append(picture);
    sample.addEventListener('click', () => {
      take(name, async () => {
        await picture.decode();
        return createImageBitmap(picture);
      });
    });
    find('samples').append(sample);
  }
  canvas('original').width = size;
  canvas('original').height = size;
  input('file').disabled = false;
  find<HTMLFieldSetElement>('samples').disabled = false;
}

/** Draws a picture into the middle of the small square, laid on what the model knows, itself on the background chosen. */
function fit(bitmap: ImageBitmap, { size, background }: { size: number; background: string }): Float32Array {
  const context = contextOf(canvas('original'), { willReadFrequently: true });
  const scale = size / Math.max(bitmap.width, bitmap.height);
  const [width, height] = [Math.max(1, bitmap.width * scale), Math.max(1, bitmap.height * scale)];
  context.fillStyle = background;
  context.fillRect(0, 0, size, size);
  const place = [(size - width) / 2, (size - height) / 2, width, height] as const;
  context.fillStyle = find<HTMLSelectElement>('background').value;
  context.fillRect(...place);
  context.imageSmoothingQuality = 'high';
  context.drawImage(bitmap, ...place);
  const { data } = context.getImageData(0, 0, size, size);
  const plane = size * size;
  return Float32Array.from(
    { length: 3 * plane },
    (_, i) => data[4 * (i % plane) + Math.floor(i / plane)] / 127.5 - 1,
  );
}

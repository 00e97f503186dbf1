/** Elements of index.html by their id. */
export const find = <T extends HTMLElement>(id: string): T => document.getElementById(id) as T;
export const input = (id: string) => find<HTMLInputElement>(id);
export const button = (id: string) => find<HTMLButtonElement>(id);
export const canvas = (id: string) => find<HTMLCanvasElement>(id);

export const contextOf = (element: HTMLCanvasElement, options?: CanvasRenderingContext2DSettings) =>
  element.getContext('2d', options) as CanvasRenderingContext2D;

/** The line above the picture that says what goes on. */
export function say(text: string, kind: 'news' | 'problem' = 'news'): void {
  const status = find('status');
  // A text that stays is not read aloud again.
  if (status.textContent !== text) status.textContent = text;
  status.classList.toggle('problem', kind === 'problem');
}

/** The bar below that line: a share from 0 to 1, 'busy' where none is known, or nothing. */
export function showShare(share: number | 'busy' | undefined): void {
  const bar = find<HTMLProgressElement>('loaded');
  bar.hidden = share === undefined;
  if (typeof share === 'number') bar.value = share;
  else bar.removeAttribute('value');
}

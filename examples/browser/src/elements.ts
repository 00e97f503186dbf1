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
  status.textContent = text;
  status.classList.toggle('problem', kind === 'problem');
}

/**
 * A page that needs nothing else.
 * @param sections HTML; empty ones are left out
 */
export function htmlPage(title: string, sections: readonly string[]): string {
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${escapeHtml(title)}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff }
h1 { font-size: 1.5rem } h2 { font-size: 1.2rem; margin-top: 2.5rem; border-bottom: 1px solid #ddd }
figure { display: inline-block; margin: 1rem 1rem 0 0; vertical-align: top }
figcaption { font-weight: 600 } img { max-width: 100%; image-rendering: pixelated; display: block; margin-top: .3rem }
svg text { font: 11px system-ui, sans-serif; fill: #555 } svg { max-width: 100% }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; display: block; overflow-x: auto }
th, td { padding: .2rem .8rem; border-bottom: 1px solid #e4e4e4; text-align: right } th:first-child, td:first-child { text-align: left }
.note { color: #8a4b00 }
</style>
<h1>${escapeHtml(title)}</h1>
${sections.filter(Boolean).join('\n')}
</html>
`;
}

/** A page with one more section at its end. */
export const addSection = (page: string, section: string): string =>
  page.replace(/<\/html>\n$/, () => `${section}\n</html>\n`);

/** A table; cells are text. */
export function htmlTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const row = (cells: readonly string[], tag: 'th' | 'td') =>
    `<tr>${cells.map((cell) => `<${tag}>${escapeHtml(cell)}</${tag}>`).join('')}</tr>`;
  return `<table><thead>${row(head, 'th')}</thead><tbody>${rows.map((cells) => row(cells, 'td')).join('')}</tbody></table>`;
}

/** A picture inside the page. @param png the bytes of the file */
export function htmlPicture(caption: string, png: Uint8Array): string {
  let text = '';
  for (let at = 0; at < png.length; at += 8192) text += String.fromCharCode(...png.subarray(at, at + 8192));
  const name = escapeHtml(caption);
  return `<figure><figcaption>${name}</figcaption><img alt="${name}" src="data:image/png;base64,${btoa(text)}"></figure>`;
}

/** Text as it may stand in HTML, between tags or in quotes. */
export const escapeHtml = (text: string) => text.replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`);

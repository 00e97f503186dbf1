import { emptyText, type SourceUse } from '@detailflow/data';
import { escapeHtml, htmlTable } from './html-page';

/** What a source of images gave, and what in it was not used, as a part of a page. */
export function sourceSection(title: string, { images, classes, unused, ...use }: SourceUse): string {
  const files = unused.reduce((sum, { count }) => sum + count, 0);
  const said = `${images} images of ${classes} classes${emptyText(use)}; ${files === 0 ? 'every file was used' : `${files} files were not used`}.`;
  const rows = unused.map(({ reason, count, examples }) => [
    reason,
    `${count}`,
    `${examples.join(', ')}${count > examples.length ? ', ...' : ''}`,
  ]);
  const table = rows.length === 0 ? '' : htmlTable(['why', 'files', 'such as'], rows);
  return `<h2>${escapeHtml(title)}</h2><p>${escapeHtml(said)}</p>${table}`;
}

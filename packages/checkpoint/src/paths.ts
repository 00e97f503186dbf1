/**
 * Why a path must not be used inside a folder or an archive, or undefined if it may: only relative paths with
 * forward slashes that stay below their root are safe on every system.
 */
export function unsafePath(path: string): string | undefined {
  if (path === '') return 'it is empty';
  if (path.includes('\0')) return 'it contains a NUL character';
  if (path.includes('\\')) return 'it contains a backslash';
  if (path.startsWith('/') || /^[A-Za-z]:/.test(path)) return 'it is absolute';
  const parts = path.split('/');
  if (parts.some((part) => part === '..' || part === '.')) return "it contains '.' or '..'";
  if (parts.includes('')) return "it contains '//' or ends in '/'";
  return undefined;
}

/** A line for the person at the terminal. */
export function showNotice(message: string): void {
  process.stderr.write(`detailflow: ${message.replace(/\p{Cc}/gu, ' ')}\n`);
}

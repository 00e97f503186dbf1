import { DetailFlowError } from '@detailflow/core';

/** Codes of a disk, a quota or a limit of a process that takes no more bytes. */
const FULL: readonly unknown[] = ['ENOSPC', 'EDQUOT', 'EFBIG'];

/** What to do about it. @param variable of the environment, which says where the files lie */
export const roomAdvice = (variable: string): string =>
  `make room, or set ${variable} to a folder on another disk`;

/** Does `work`; where it fails since a disk takes no more, the error says what to do. */
export async function advisingRoom<T>(variable: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!DetailFlowError.isInstance(error)) throw error;
    const { code } = (error.cause ?? {}) as { code?: unknown };
    if (!FULL.includes(code)) throw error;
    throw new DetailFlowError('io', `${error.message}; ${roomAdvice(variable)}, and try again`, {
      cause: error,
    });
  }
}

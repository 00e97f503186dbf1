import { DetailFlowError, type ErrorCode } from '../errors';

/** Checks that a use fails with a code. @throws DetailFlowError `runtime` that begins with `subject` where it does not */
export async function requireRefusal(
  subject: string,
  { code, what }: { readonly code: ErrorCode; readonly what: string },
  use: () => unknown,
): Promise<void> {
  try {
    await use();
  } catch (error) {
    if (DetailFlowError.isInstance(error) && error.code === code) return;
  }
  throw new DetailFlowError('runtime', `${subject}: ${what} is not refused with "${code}"`);
}

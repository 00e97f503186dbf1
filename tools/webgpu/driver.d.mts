/** A browser that tests can drive, or undefined. */
export const browserPath: string | undefined;
/** Makes the software driver known to programs of this process. @returns why there is no WebGPU here, or undefined */
export function provideDriver(): string | undefined;

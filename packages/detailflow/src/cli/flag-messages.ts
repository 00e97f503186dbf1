import { DetailFlowError } from '@detailflow/core';
import { type Command, optionsOf, UsageError } from './command';

/** Options of the API that the command line calls by another name. */
const otherNames: Readonly<Record<string, string>> = { labels: 'class', keepTokens: 'keep' };

/**
 * An error of the API as the command line would say it: "topK is -1; ..." becomes "--top-k is -1; ...", which is wrong
 * usage. Advice that only programs can take is left out.
 */
export function inFlags(error: unknown, command: Command): unknown {
  if (!DetailFlowError.isInstance(error)) return error;
  if (error.code === 'device-unavailable' || error.code === 'device-lost') {
    return new DetailFlowError(
      error.code,
      error.message.replace(/choose device "cpu"/, 'give --device cpu'),
      {
        cause: error,
      },
    );
  }
  const advice = / \(option \w+\)|; name another file with the option \w+/g;
  if (error.code !== 'invalid-argument' || error.file !== undefined) {
    if (!advice.test(error.message)) return error;
    return new DetailFlowError(error.code, error.message.replace(advice, ''), { cause: error });
  }
  const named = /^(?:the )?(\w+)(?= (?:is|holds|are) |: )/.exec(error.message);
  const flag = named && flagOf(named[1], command);
  return flag ? new UsageError(error.message.replace(named[0], `--${flag}`)) : error;
}

function flagOf(name: string, command: Command): string | undefined {
  const kebab = name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
  return [otherNames[name], kebab].find((one) => one !== undefined && Object.hasOwn(optionsOf(command), one));
}

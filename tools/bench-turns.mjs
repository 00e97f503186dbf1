import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

/**
 * A process that measures when it is told to, so that several share the good and bad minutes of a machine: a line on its
 * input is a question (`round`, `end`), a line of JSON on its output the answer. Its first answer says that it is ready.
 */
export class Participant {
  #answers;
  #process;

  /** @param {string} program @param {string[]} args @param {Record<string, string>} [env] beside that of this process */
  constructor(program, args, env = {}) {
    const options = { stdio: ['pipe', 'pipe', 'inherit'], env: { ...process.env, ...env } };
    this.#process = spawn(program, args, options);
    this.#answers = createInterface({ input: this.#process.stdout })[Symbol.asyncIterator]();
  }

  /** @returns what the process says next; throws where it ends instead */
  async answer() {
    const { value, done } = await this.#answers.next();
    if (done) throw new Error(`${this.#process.spawnargs.slice(0, 2).join(' ')} ended without an answer`);
    return JSON.parse(value);
  }

  /** @param {string} question */
  ask(question) {
    this.#process.stdin.write(`${question}\n`);
    return this.answer();
  }

  end() {
    this.#process.stdin.end();
  }
}

/** Answers questions until the input ends: the other side of `Participant`. */
export async function answerTurns(ready, answer) {
  console.log(JSON.stringify(ready));
  for await (const question of createInterface({ input: process.stdin })) {
    console.log(JSON.stringify(await answer(question)));
  }
}

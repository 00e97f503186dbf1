import { setMaxListeners } from 'node:events';
import { ApiError } from './api-error';
import { checkFields, editFields, formFields, generationFields, variationFields } from './image-fields';
import { defaultKeep, imageOf, keepFirst, keepOutside, maskOf, requireSquare } from './kept-tokens';
import { linkSignals } from './linked-signal';
import type { PictureDesk, Promised } from './picture-desk';
import { type PictureRequest, pictureRequest, type Serving, withText } from './picture-request';
import { parseForm, readBody, readJson, requireForm } from './read-body';
import { Turns } from './turns';

/** The ways to a picture. */
export const ROUTES = ['generations', 'edits', 'variations'] as const;
export type Route = (typeof ROUTES)[number];

/** A request whose pictures are taken on. */
export interface Taken {
  readonly request: PictureRequest;
  readonly promised: Promised;
}

export interface IntakeOptions {
  readonly serving: Serving;
  readonly desk: PictureDesk;
  /** Bytes of a form. */
  readonly bodyLimit: number;
  /** Forms that are taken apart, and whose pictures are encoded, at once. */
  readonly forms: number;
}

/** Shares of the tokens that stay where a request does not say. */
const KEPT = { edits: 0.25, variations: 0.5 } as const;
const JSON_LIMIT = 256 * 1024;

/** Reads requests and has the desk take their pictures on; ends what is being read when no more are taken on. */
export class Intake {
  readonly #serving: Serving;
  readonly #desk: PictureDesk;
  readonly #bodyLimit: number;
  readonly #turns: Turns;
  readonly #stopping = new AbortController();

  constructor({ serving, desk, bodyLimit, forms }: IntakeOptions) {
    this.#serving = serving;
    this.#desk = desk;
    this.#bodyLimit = bodyLimit;
    this.#turns = new Turns(forms);
    setMaxListeners(0, this.#stopping.signal); // one a request
  }

  /** Ends with `reason` what is being read. What is taken on stays so. */
  stop(reason: unknown): void {
    this.#stopping.abort(reason);
  }

  /**
   * Reads a request and has its pictures taken on.
   * @throws ApiError 429 before a form is read for which there is no room; what is wrong with the request; the signal's reason
   */
  async take(route: Route, raw: Request, signal: AbortSignal): Promise<Taken> {
    const reading = linkSignals([signal, this.#stopping.signal]);
    try {
      if (route !== 'generations') {
        return await this.#encoded(await this.#takeForm(route, raw, reading.signal, signal), signal);
      }
      const json = await readJson(raw, JSON_LIMIT, reading.signal);
      const fields = checkFields(generationFields, json);
      const request = pictureRequest(this.#serving, fields, { needsClass: true });
      return await this.#encoded({ request, promised: this.#desk.take(request.n) }, signal);
    } finally {
      reading.release();
    }
  }

  /** Has the text of a request encoded. It has its places by then, so no more texts wait than pictures may. */
  async #encoded(taken: Taken, signal: AbortSignal): Promise<Taken> {
    const { request, promised } = taken;
    const { encoder } = this.#serving.prompts ?? {};
    if (request.prompt === undefined || !encoder) return taken;
    return giveUpUnless(promised, signal, async () => ({
      request: withText(request, await encoder.encode(request.prompt as string, signal)),
      promised,
    }));
  }

  /** Of a form that waits for its turn nothing lies in memory but its body, and of so many at most as pictures are taken on. */
  async #takeForm(
    route: 'edits' | 'variations',
    raw: Request,
    reading: AbortSignal,
    signal: AbortSignal,
  ): Promise<Taken> {
    const type = requireForm(raw);
    const leave = this.#desk.admitForm();
    try {
      const body = await readBody(raw, this.#bodyLimit, reading);
      return await this.#turns.run(reading, async () => {
        const form = await parseForm(body, type);
        reading.throwIfAborted();
        const checked = this.#check(route, form);
        leave();
        const promised = this.#desk.take(checked.n);
        return giveUpUnless(promised, signal, async () => ({
          request: await checked.encode(signal),
          promised,
        }));
      });
    } finally {
      leave();
    }
  }

  /** Looks at the fields before the picture is encoded, which costs a run of the model. @throws ApiError 400 */
  #check(route: 'edits' | 'variations', form: ReadonlyMap<string, readonly (string | File)[]>) {
    requireSquare(this.#serving);
    const isEdit = route === 'edits';
    const fields = checkFields(isEdit ? editFields : variationFields, formFields(form));
    const [image, mask] = [imageOf(form), isEdit ? maskOf(form) : undefined];
    if (!isEdit && form.has('mask')) {
      throw new ApiError(400, 'variations take no mask; edits do', { param: 'mask', code: 'unknown_field' });
    }
    if (mask && fields.keep != null) {
      throw new ApiError(400, 'give mask or keep, not both', { param: 'keep', code: 'invalid_value' });
    }
    const { n } = pictureRequest(this.#serving, fields, { needsClass: isEdit });
    const encode = async (signal: AbortSignal): Promise<PictureRequest> => {
      const kept = mask
        ? await keepOutside(this.#serving, { image, mask, signal })
        : await keepFirst(this.#serving, {
            ...{ image, signal },
            count: fields.keep ?? defaultKeep(this.#serving.tokenModel, KEPT[route]),
          });
      return pictureRequest(this.#serving, fields, { needsClass: isEdit, kept });
    };
    return { n, encode };
  }
}

/** Does what is still to be done before pictures are drawn that are taken on; if it fails they are given up. */
async function giveUpUnless<T>(promised: Promised, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const isRefused = error instanceof ApiError && error.status < 500;
    promised.giveUp(signal.aborted ? 'cancelled' : isRefused ? 'refused' : 'failed');
    throw error;
  }
}

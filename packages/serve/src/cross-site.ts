import { DetailFlowError, describe } from '@detailflow/core';
import type { Context } from 'hono';
import { ApiError } from './api-error';

const MOST_ORIGINS = 1000;
/** Seconds for which a browser need not ask again. */
const PREFLIGHT_AGE = 600;

/**
 * Says which pages may ask. A browser sends forms of any page to any address, such as this machine's, without asking first; but it
 * says where they come from. Programs say nothing of the kind, and are not held up.
 */
export class CrossSite {
  readonly #origins: ReadonlySet<string>;

  /** @throws DetailFlowError `invalid-argument` for what is no origin */
  constructor(origins: readonly string[] = []) {
    if (!Array.isArray(origins)) {
      throw new DetailFlowError('invalid-argument', `origins: ${describe(origins)}; give a list of them`);
    }
    const wrong = origins.find((one) => !isOrigin(one));
    if (wrong !== undefined || origins.length > MOST_ORIGINS) {
      throw new DetailFlowError(
        'invalid-argument',
        `origins: ${wrong === undefined ? `${origins.length} are given` : describe(wrong)}; give up to ${MOST_ORIGINS} such as "https://example.org"`,
      );
    }
    this.#origins = new Set(origins);
  }

  /** @throws ApiError 403 for a request of a page that is neither of this server nor of an origin that may ask */
  check({ req }: Context): void {
    const [origin, site] = [req.header('origin'), req.header('sec-fetch-site')];
    if (site === 'same-origin' || site === 'none') return; // no page can set this header itself
    const isForeign =
      origin === undefined
        ? site !== undefined
        : !this.#origins.has(origin) && origin.split('://')[1] !== (req.header('host') ?? hostOf(req.url));
    if (!isForeign) return;
    throw new ApiError(
      403,
      'pages of other sites may not ask here; the option "origins" names those that may',
      {
        ...{ type: 'permission_error', code: 'cross_site' },
      },
    );
  }

  /** Lets pages of origins that may ask read the answer. */
  allowReading(c: Context): void {
    if (this.#origins.size === 0) return;
    c.header('vary', 'origin', { append: true });
    const origin = c.req.header('origin');
    if (origin === undefined || !this.#origins.has(origin)) return;
    c.header('access-control-allow-origin', origin);
    c.header('access-control-expose-headers', 'x-request-id, retry-after');
  }

  /** The answer to a browser that asks whether a page of an origin that may ask may send a request; undefined for other requests. */
  preflight(c: Context): Response | undefined {
    const { req } = c;
    const origin = req.header('origin') ?? '';
    if (req.method !== 'OPTIONS' || !this.#origins.has(origin)) return undefined;
    if (req.header('access-control-request-method') === undefined) return undefined;
    return c.body(null, 204, {
      'access-control-allow-methods': 'GET, POST',
      'access-control-allow-headers': req.header('access-control-request-headers') ?? '',
      'access-control-max-age': String(PREFLIGHT_AGE),
    });
  }
}

const hostOf = (url: string): string => new URL(url).host;

/** Whether a text is what browsers send as `Origin`: scheme, host, and a port that is not the scheme's own. */
const isOrigin = (text: unknown): text is string =>
  typeof text === 'string' && /^https?:/.test(text) && URL.canParse(text) && new URL(text).origin === text;

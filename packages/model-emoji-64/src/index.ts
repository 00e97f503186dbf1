/**
 * Folder of the model, a bundle: `load(modelUrl)` of `detailflow` opens it in Node; a page fetches the files below it.
 * A bundler copies them when their addresses are written out: `new URL('@detailflow/model-emoji-64/model/config.json',
 * import.meta.url)`.
 * @see https://detailflow.github.io/detailflow-ts/packages/model-emoji-64.html
 */
export const modelUrl: URL = new URL('../model/', import.meta.url);

/** The classifier that judged the model's pictures, a .safetensors file for `openExtractor` of `@detailflow/eval`. */
export const classifierUrl: URL = new URL('../classifier.safetensors', import.meta.url);

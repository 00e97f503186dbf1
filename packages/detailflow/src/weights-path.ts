/** Whether a path ends as files of weights do; of one in several parts its index counts. */
export const isWeightsPath = (path: string): boolean =>
  /\.(pt|pth|ckpt|bin|safetensors|safetensors\.index\.json)$/.test(path);

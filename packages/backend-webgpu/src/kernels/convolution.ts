import { Kernel } from '../kernel';

const window = [
  ...['height : i32', 'width : i32', 'outHeight : i32', 'outWidth : i32', 'rows : i32', 'columns : i32'],
  ...['down : i32', 'across : i32', 'top : i32', 'left : i32'],
];

const place = `
  let x = index % uniforms.outWidth;
  let y = (index / uniforms.outWidth) % uniforms.outHeight;
  let plane = index / (uniforms.outWidth * uniforms.outHeight);`;

/** x [B, C, H, W] by kernels [O, C, h, w], one thread for each result. */
export const conv2dKernel = new Kernel({
  inputs: ['X', 'W'],
  uniforms: [...window, 'downStep : i32', 'acrossStep : i32', 'channels : i32', 'outputs : i32'],
  code: `fn main(index: i32) {
  if (index >= uniforms.size) { return; }
  ${place}
  let o = plane % uniforms.outputs;
  let b = plane / uniforms.outputs;
  var found = 0.0;
  for (var c = 0; c < uniforms.channels; c = c + 1) {
    let image = (b * uniforms.channels + c) * uniforms.height * uniforms.width;
    let filter = (o * uniforms.channels + c) * uniforms.rows * uniforms.columns;
    for (var i = 0; i < uniforms.rows; i = i + 1) {
      let row = y * uniforms.down + i * uniforms.downStep - uniforms.top;
      if (row < 0 || row >= uniforms.height) { continue; }
      for (var j = 0; j < uniforms.columns; j = j + 1) {
        let column = x * uniforms.across + j * uniforms.acrossStep - uniforms.left;
        if (column < 0 || column >= uniforms.width) { continue; }
        found = found + X(image + row * uniforms.width + column) * W(filter + i * uniforms.columns + j);
      }
    }
  }
  result[index] = found;
}`.replaceAll('filter', 'taps'),
});

const pool = (initial: string, step: string, finish: string) =>
  new Kernel({
    inputs: ['X'],
    uniforms: window,
    code: `fn main(index: i32) {
  if (index >= uniforms.size) { return; }
  ${place}
  let image = plane * uniforms.height * uniforms.width;
  var found = ${initial};
  var count = 0.0;
  for (var i = 0; i < uniforms.rows; i = i + 1) {
    let row = y * uniforms.down + i - uniforms.top;
    if (row < 0 || row >= uniforms.height) { continue; }
    for (var j = 0; j < uniforms.columns; j = j + 1) {
      let column = x * uniforms.across + j - uniforms.left;
      if (column < 0 || column >= uniforms.width) { continue; }
      let value = X(image + row * uniforms.width + column);
      found = ${step};
      count = count + 1.0;
    }
  }
  result[index] = ${finish};
}`,
  });

export const maxPoolKernel = pool('-uniforms.INFINITY', 'max(found, value)', 'found');
export const averagePoolKernel = pool('0.0', 'found + value', 'found / count');

import type { ElementType } from '../element-type';

/** What an element is in WGSL where it is written. */
export const wgslTypes: Readonly<Record<ElementType, string>> = {
  float32: 'f32',
  int32: 'i32',
  float16: 'u32',
};

/**
 * WGSL of an input: its array, and the function of its name that reads it.
 * @param options.byFours whether it reads four elements at a time
 * @param options.halves whether the device reads halves by itself
 */
export function inputArray(
  name: string,
  type: ElementType,
  { byFours, halves }: { readonly byFours: boolean; readonly halves: boolean },
): string {
  if (type === 'float16' && halves) {
    const [lies, reads] = byFours ? ['vec4<f16>', 'vec4<f32>'] : ['f16', 'f32'];
    return `var<storage, read> ${name}_: array<${lies}>;
fn ${name}(i: i32) -> ${reads} { return ${reads}(${name}_[i]); }`;
  }
  const scalar = type === 'float16' ? 'f32' : wgslTypes[type];
  const [lies, reads, read] = byFours
    ? type === 'float16'
      ? ['vec2<u32>', 'vec4<f32>', 'halves(NAME[i])']
      : [`vec4<${scalar}>`, `vec4<${scalar}>`, 'NAME[i]']
    : [wgslTypes[type], scalar, type === 'float16' ? 'half(NAME[i >> 1u] >> (16u * u32(i & 1)))' : 'NAME[i]'];
  return `var<storage, read> ${name}_: array<${lies}>;
fn ${name}(i: i32) -> ${reads} { return ${read.replace('NAME', `${name}_`)}; }`;
}

/**
 * The value of a half, exactly: unpack2x16float may take small ones (below 2^-14) for zero, and so may any reading of bits
 * that gives such a number.
 */
export const halfCode = `
fn half(bits: u32) -> f32 {
  let magnitude = bits & 0x7fffu;
  let value = select(bitcast<f32>((magnitude << 13u) + 0x38000000u), f32(magnitude) * 5.9604644775390625e-8, magnitude < 1024u);
  return select(value, -value, (bits & 0x8000u) != 0u);
}
fn halves(pairs: vec2<u32>) -> vec4<f32> {
  return vec4<f32>(half(pairs.x), half(pairs.x >> 16u), half(pairs.y), half(pairs.y >> 16u));
}
`;

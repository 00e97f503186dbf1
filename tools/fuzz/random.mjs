/** Numbers of a seed: xoshiro128** over splitmix32, the same on every machine. */
export class Random {
  constructor(...keys) {
    let state = 0x9e3779b9;
    for (const key of keys) for (const char of String(key)) state = mix(state ^ char.codePointAt(0));
    this.words = [1, 2, 3, 4].map(() => {
      state = (state + 0x9e3779b9) >>> 0;
      return mix(state);
    });
  }

  uint32() {
    const s = this.words;
    const result = Math.imul(rotate(Math.imul(s[1], 5), 7), 9) >>> 0;
    const t = s[1] << 9;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 11);
    return result;
  }

  /** 0 .. limit - 1; 0 for a limit of 0. */
  below(limit) {
    return limit < 2 ? 0 : Math.floor((this.uint32() / 2 ** 32) * limit);
  }

  chance(probability) {
    return this.uint32() / 2 ** 32 < probability;
  }

  pick(list) {
    return list[this.below(list.length)];
  }
}

const rotate = (x, k) => (x << k) | (x >>> (32 - k));

function mix(x) {
  let y = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  y = Math.imul(y ^ (y >>> 13), 0xc2b2ae35);
  return (y ^ (y >>> 16)) >>> 0;
}

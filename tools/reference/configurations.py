"""The odd configurations: settings that differ from the defaults, and how each checkpoint is stored.

enc, dec: (width, heads, layers, mlp width). ar: (dim, heads, kv heads or None, layers).
"""

DEFAULTS = {
    "power": 1.5,
    "causal": None,
    "causal_encoder": True,
    "causal_decoder": False,
    "correction": True,
    "rope_base": 10000,
    "multiple_of": 16,
    "ffn_multiplier": None,
    "classes": 5,
    "prefix": "",
    "dtype": "float32",
    "extras": False,
    "layout": "plain",
    "smaller_image": None,
    "larger_decode": None,
}

CONFIGURATIONS = {
    # First part of two groups, odd widths, 5 x 5 patches, fewer codes than the 50 candidates of a wrong token.
    "two-causal-groups": dict(
        image=40, patches=(8, 8), tokens=24, group=4, causal=8, enc=(36, 3, 2, 52), dec=(20, 2, 1, 36),
        codebook=(40, 5), power=1.0, noise=(5, 16), ar=(32, 4, 2, 2), classes=3, rope_base=500,
        multiple_of=20, ffn_multiplier=1.3, dtype="float16", smaller_image=24,
    ),
    # Every token one by one; encoder patch smaller than the decoder's; one kv head for three.
    "all-causal": dict(
        image=24, patches=(4, 8), tokens=12, group=4, causal=12, enc=(24, 2, 1, 40), dec=(20, 1, 2, 28),
        codebook=(33, 6), power=2.0, noise=(0, 11), ar=(12, 3, 1, 2), prefix="module.", smaller_image=8,
    ),
    # Groups of one token, encoder patch larger than the decoder's, no self-correction.
    "groups-of-one": dict(
        image=40, patches=(8, 4), tokens=14, group=1, enc=(20, 1, 2, 24), dec=(36, 3, 1, 44), codebook=(48, 4),
        power=0.7, correction=False, ar=(36, 3, 1, 2), rope_base=100, prefix="_orig_mod.", dtype="float16",
        smaller_image=16,
    ),
    # Causal decoder with a first part of two groups, encoder without a mask, a checkpoint of the alignment loss in bfloat16.
    "causal-decoder": dict(
        image=24, patches=(8, 4), tokens=16, group=2, causal=4, enc=(24, 3, 2, 36), dec=(30, 3, 2, 50), codebook=(64, 8),
        causal_encoder=False, causal_decoder=True, noise=(1, 10), ar=(32, 2, None, 2), ffn_multiplier=1.3,
        dtype="bfloat16", extras=True,
    ),
    # 20 x 20 patches: position tables are enlarged; one weight lies transposed in its storage.
    "large-grid": dict(
        image=40, patches=(2, 2), tokens=16, group=8, enc=(16, 2, 1, 24), dec=(18, 3, 1, 20), codebook=(56, 3),
        noise=(3, 8), ar=(16, 4, 2, 3), classes=1, layout="transposed", smaller_image=34,
    ),
    # Towers of different width, heads and depth, patches of 12 and 9, an odd number of groups; weights share a storage.
    "uneven-towers": dict(
        image=36, patches=(12, 9), tokens=15, group=3, causal=6, enc=(30, 5, 3, 32), dec=(28, 2, 1, 56),
        codebook=(50, 7), power=1.0, noise=(4, 12), ar=(24, 6, 3, 2), rope_base=500, multiple_of=20,
        ffn_multiplier=1.3, dtype="float16", layout="shared",
    ),
    # Groups of one after a causal part of three, both towers causal, odd head dimensions.
    "causal-towers": dict(
        image=30, patches=(6, 10), tokens=10, group=1, causal=3, enc=(21, 3, 1, 25), dec=(22, 2, 2, 17),
        codebook=(37, 5), power=2.0, causal_decoder=True, noise=(2, 7), ar=(24, 2, 1, 1), classes=3, multiple_of=1,
    ),
    # One single group, and a decoder grid of a single patch.
    "single-group": dict(
        image=16, patches=(8, 16), tokens=8, group=8, enc=(16, 2, 1, 20), dec=(12, 1, 1, 24), codebook=(33, 4),
        power=0.7, noise=(0, 7), ar=(8, 2, 1, 1), classes=2, larger_decode=32,
    ),
    # No token by itself: the first group is predicted at once, too.
    "first-group-at-once": dict(
        image=40, patches=(8, 8), tokens=20, group=4, causal=0, enc=(24, 3, 2, 36), dec=(20, 2, 1, 28),
        codebook=(44, 5), causal_decoder=True, noise=(0, 8), ar=(24, 3, None, 2), classes=3, smaller_image=24,
    ),
    # A codebook of vectors of any length, compared as they are; a causal part of two groups; both towers causal.
    "plain-codebook": dict(
        image=24, patches=(8, 4), tokens=12, group=3, causal=6, enc=(24, 3, 1, 36), dec=(20, 2, 2, 28), codebook=(45, 6),
        causal_decoder=True, normalised=False, noise=(2, 9), ar=(24, 2, 1, 2), classes=4, dtype="float16",
        smaller_image=16,
    ),
    # The same without self-correction, groups of one, one patch of the decoder for four of the encoder.
    "plain-codebook-of-one": dict(
        image=32, patches=(4, 8), tokens=10, group=1, enc=(18, 2, 2, 30), dec=(24, 3, 1, 40), codebook=(70, 3),
        causal_encoder=False, normalised=False, correction=False, power=2.0, ar=(16, 4, 2, 1), classes=2,
        prefix="module.",
    ),
}  # fmt: skip

# Resolution maps alone: (tokens, group, causal, largest size, encoder patch, decoder patch, power).
RESOLUTION_SETUPS = [
    (64, 8, 8, 64, 8, 8, 1.0),  # R(n) = n exactly
    (31, 1, 1, 41, 4, 8, 1.0),  # R(n) an integer every third n, up to rounding
    (24, 4, 8, 40, 8, 8, 1.0),
    (20, 4, 4, 65, 5, 16, 1.5),
    (34, 2, 6, 100, 7, 9, 2.0),
    (128, 8, 32, 256, 16, 8, 0.7),
    (128, 8, 128, 256, 14, 16, 1.5),
    (48, 16, 16, 50, 16, 12, 0.5),
    (256, 16, 16, 384, 16, 32, 3.0),
    (64, 8, 0, 64, 8, 8, 1.5),
    (24, 4, 0, 40, 8, 4, 1.0),
]

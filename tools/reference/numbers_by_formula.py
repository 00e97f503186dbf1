"""Numbers from a formula, which tests repeat: inputs and weights of reference scripts need not be stored."""
import numpy as np


def numbers(name, *shape):
    """Repeatable numbers in [-1, 1): a 32-bit hash of the name and the index."""
    seed = 2166136261
    for char in name:
        seed = ((seed ^ ord(char)) * 16777619) & 0xFFFFFFFF
    i = np.arange(int(np.prod(shape)), dtype=np.uint64)
    x = (i * np.uint64(2654435761) + np.uint64(seed)) & np.uint64(0xFFFFFFFF)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x ^= x >> np.uint64(shift)
        x = (x * np.uint64(factor)) & np.uint64(0xFFFFFFFF)
    x ^= x >> np.uint64(16)
    return (x.astype(np.float64) / 2**31 - 1).reshape(shape)

"""What each byte of the one-byte floating-point formats stands for, as bits of float32, for the tests of @detailflow/core.

    python3 tools/reference/float8.py tests/fixtures/float8.json

Needs numpy and ml_dtypes (made with 0.6), which holds the types that safetensors names.
"""
import json
import sys

import ml_dtypes
import numpy as np

formats = {
    "f8_e4m3": ml_dtypes.float8_e4m3fn,
    "f8_e5m2": ml_dtypes.float8_e5m2,
    "f8_e8m0": ml_dtypes.float8_e8m0fnu,
    "f8_e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
    "f8_e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
}


def words(kind):
    values = np.arange(256, dtype=np.uint8).view(kind).astype(np.float32)
    return ["nan" if np.isnan(value) else f"{bits:08x}" for value, bits in zip(values, values.view(np.uint32))]


with open(sys.argv[1], "w") as file:
    json.dump({name: " ".join(words(kind)) for name, kind in formats.items()}, file, indent=2)
    file.write("\n")

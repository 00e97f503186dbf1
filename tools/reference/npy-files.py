"""Small .npy files of every kind that NumPy reads as numbers, with their values, for the tests of @detailflow/data.

    python3 tools/reference/npy-files.py tests/fixtures/npy-files.json

Every file is read back by numpy.load before it is written down; those that no NumPy of today writes are put together by
hand: headers of Python 2, data types without byte order.
"""
import base64
import io
import json
import struct
import sys
import warnings

import numpy as np

files = {}


def keep(name, data):
    array = np.load(io.BytesIO(data))
    values = [float(value) for value in array.ravel(order="C")]
    files[name] = {
        "npy": base64.b64encode(data).decode(),
        "dtype": array.dtype.newbyteorder("=").name,
        "shape": list(array.shape),
        "values": values,
    }


def saved(array, version=None):
    out = io.BytesIO()
    np.lib.format.write_array(out, array, version=version)
    return out.getvalue()


def by_hand(header, data):
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


kinds = ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"]
for kind in kinds:
    low, high = (0, 1) if kind[0] in "?" else (0, 200) if kind[0] == "u" else (-100, 100)
    if kind[0] == "f":
        values = np.array([[0.5, -2.25, 1024.0], [3.0, 6.103515625e-05, -0.0]])
    else:
        values = np.array([[low, high, 1], [1, low, high]])
    for order in "<>":
        array = values.astype(np.dtype(order + kind))
        keep(f"{order}{kind}", saved(array))
        keep(f"{order}{kind} in Fortran order", saved(np.asfortranarray(array)))
small = np.arange(6, dtype="<f4").reshape(2, 3)
for version in [(1, 0), (2, 0), (3, 0)]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        keep(f"version {version[0]}", saved(small, version))
keep("of no axis", saved(np.array(2.5, dtype="<f8")))
keep("of no axis, in the other order", saved(np.array(-7, dtype=">i4")))
keep("of no value", saved(np.zeros((0, 4), dtype="<f4")))
keep("three axes in Fortran order", saved(np.asfortranarray(np.arange(24, dtype=">i2").reshape(2, 3, 4))))
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    header = "{'descr': '%s', 'fortran_order': False, 'shape': %s, }"
    keep("a header of Python 2", by_hand(header % ("<f4", "(2L, 3L)"), small.tobytes()))
    keep("a header of Python 2, one axis", by_hand(header % ("<f4", "(6L,)"), small.tobytes()))
    keep("no byte order", by_hand(header % ("f4", "(2, 3)"), small.tobytes()))
    keep("the byte order of the machine", by_hand(header % ("=f4", "(2, 3)"), small.tobytes()))
    keep("a data type of one letter", by_hand(header % ("f", "(2, 3)"), small.tobytes()))
    keep("a data type by its name", by_hand(header % ("float32", "(2, 3)"), small.tobytes()))
    keep("a big-endian data type of one letter", by_hand(header % (">h", "(3,)"), struct.pack(">3h", 1, -2, 3)))
    keep("keys in another order", by_hand("{'shape':(6,),'descr':u'<f4','fortran_order':False}", small.tobytes()))

with open(sys.argv[1], "w") as file:
    json.dump(files, file, indent=0)
    file.write("\n")

#!/usr/bin/python3
"""Files as CIFAR's version for Python has them, of two images, in every protocol that pickles numpy arrays.

    /usr/bin/python3 -B tools/reference/cifar-pickles.py

writes tests/fixtures/cifar-pickles. Byte i of image n is (7 i + 100 n) mod 256. Made with Python 3.11 and numpy 1.24.
"""
import pathlib
import pickle

import numpy as np

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests/fixtures/cifar-pickles"
OUT.mkdir(parents=True, exist_ok=True)
data = (7 * np.arange(3072)[None] + 100 * np.arange(2)[:, None]).astype(np.uint8)
batch = {"batch_label": "training batch 1 of 5", "labels": [6, 9], "data": data, "filenames": ["a.png", "b.png"]}
for protocol in range(6):
    (OUT / f"protocol-{protocol}").write_bytes(pickle.dumps(batch, protocol))
fine = {b"fine_labels": [3, 99], b"coarse_labels": [0, 19], b"data": data, b"filenames": [b"a.png", b"b.png"]}
(OUT / "hundred").write_bytes(pickle.dumps(fine, 2))
names = {"fine_label_names": [f"fine {i}" for i in range(100)], "coarse_label_names": ["x"] * 20}
(OUT / "hundred-meta").write_bytes(pickle.dumps(names, 2))
wrong = {"float": data.astype(np.float32), "fortran": np.asfortranarray(data), "flat": data.reshape(-1)}
for name, array in wrong.items():
    (OUT / f"wrong-{name}").write_bytes(pickle.dumps({"labels": [6, 9], "data": array}, 4))

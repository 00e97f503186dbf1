"""Reading and writing .safetensors: 8-byte little-endian header length, JSON header, raw data."""

import json

import numpy as np

READ = {"F32": np.float32, "F16": np.float16, "I32": np.int32, "U8": np.uint8}


def read_safetensors(path):
    """All tensors of a file; floats (BF16, F16, F32) come back as float64."""
    with open(path, "rb") as file:
        blob = file.read()
    header_end = 8 + int.from_bytes(blob[:8], "little")
    header = json.loads(blob[8:header_end])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        raw = blob[header_end + begin : header_end + end]
        if entry["dtype"] == "BF16":
            array = (np.frombuffer(raw, np.uint16).astype(np.uint32) << 16).view(np.float32)
        else:
            array = np.frombuffer(raw, READ[entry["dtype"]])
        if array.dtype.kind == "f":
            array = array.astype(np.float64)
        tensors[name] = array.reshape(entry["shape"])
    return tensors


def write_safetensors(path, tensors):
    """Floating arrays are stored as F32, integer arrays as I32, in the order given."""
    header, chunks, offset = {}, [], 0
    for name, array in tensors.items():
        array = np.asarray(array)
        kind, dtype = ("F32", "<f4") if array.dtype.kind == "f" else ("I32", "<i4")
        data = np.ascontiguousarray(array, dtype).tobytes()
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [offset, offset + len(data)]}
        chunks.append(data)
        offset += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text + b"".join(chunks))

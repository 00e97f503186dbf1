"""Draws pictures with an exported DetailFlow generator. Needs NumPy and, unless --prepare is given, onnxruntime."""

import argparse
import os
import struct
import zlib

import numpy as np


def png(pixels: np.ndarray) -> bytes:
    """float32 [3, S, S] in [-1, 1] -> a PNG file, rounded as the official code does."""
    rgb = np.clip(np.trunc(127.5 * pixels + 128), 0, 255).astype(np.uint8).transpose(1, 2, 0)
    height, width, _ = rgb.shape
    rows = b"".join(b"\0" + row.tobytes() for row in rgb)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="the .onnx file; its .data lies beside it")
    parser.add_argument("--labels", default="9", help="classes, such as 9,1")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cfg", type=float, default=2.0)
    parser.add_argument("--tokens", type=int, default=64, help="N of the model")
    parser.add_argument("--codes", type=int, default=1024, help="V of the model")
    parser.add_argument("--out", default="out/python")
    parser.add_argument("--prepare", action="store_true", help="only write the inputs")
    options = parser.parse_args()

    labels = np.array([int(label) for label in options.labels.split(",")], np.int32)
    random = np.random.default_rng(options.seed)
    noise = random.exponential(size=(len(labels), options.tokens, options.codes)).astype(np.float32)
    noise = np.maximum(noise, np.finfo(np.float32).tiny)  # draws must be above 0
    feeds = {
        "labels": labels,
        "noise": noise,
        "cfg": np.array([options.cfg], np.float32),
        "temperature": np.array([1.0], np.float32),
    }
    os.makedirs(options.out, exist_ok=True)
    for name, values in feeds.items():
        np.save(os.path.join(options.out, f"{name}.npy"), values)
    if options.prepare:
        return

    import onnxruntime

    session = onnxruntime.InferenceSession(options.model, providers=["CPUExecutionProvider"])
    tokens, pixels = session.run(["tokens", "pixels"], feeds)
    np.save(os.path.join(options.out, "tokens.npy"), tokens)
    for i, picture in enumerate(pixels):
        with open(os.path.join(options.out, f"{i}.png"), "wb") as file:
            file.write(png(picture))
    print(f"{len(pixels)} pictures in {options.out}, tokens {tokens.shape}")


if __name__ == "__main__":
    main()

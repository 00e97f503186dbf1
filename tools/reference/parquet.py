"""Image sets in Parquet as the Hub keeps them, written by pyarrow: tests/fixtures/parquet. Run: python parquet.py OUT"""

import json
import pathlib
import random
import struct
import sys
import zlib

import pyarrow as pa
import pyarrow.parquet as pq


def png(colour, width=4, height=3, level=-1, first_row=None):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes(colour) * width for _ in range(height))
    if first_row:
        rows = b"\0" + first_row + rows[1 + len(first_row) :]
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, level)) + chunk(b"IEND", b"")


out = pathlib.Path(sys.argv[1])
(out / "shapes").mkdir(parents=True, exist_ok=True)
features = {"image": {"_type": "Image"}, "label": {"names": ["circle", "square"], "_type": "ClassLabel"}}
schema = pa.schema(
    [("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("label", pa.int64())],
    metadata={"huggingface": json.dumps({"info": {"features": features}})},
)
expected = {}
for part, count, compression in [("train", 7, "snappy"), ("test", 3, "zstd")]:
    rows = [(i % 2, [20 * i + 7, 255 - 30 * i, 100]) for i in range(count)]
    expected[part] = [{"label": label, "pixel": pixel} for label, pixel in rows]
    images = [{"bytes": png(pixel), "path": f"{i}.png"} for i, (_, pixel) in enumerate(rows)]
    table = pa.table({"image": images, "label": [label for label, _ in rows]}, schema=schema)
    file = out / "shapes" / f"{part}-00000-of-00001.parquet"
    pq.write_table(table, file, row_group_size=3, compression=compression)
(out / "shapes.json").write_text(json.dumps(expected) + "\n")

# Groups of rows of several pages, written in several ways, with a row that has no image.
(out / "pages").mkdir(exist_ok=True)
rows = [(i % 2, None if i == 17 else [6 * i + 7, 250 - 6 * i, 100]) for i in range(40)]
images = [{"bytes": pixel and png(pixel), "path": f"{i}.png"} for i, (_, pixel) in enumerate(rows)]
table = pa.table({"image": images, "label": [label for label, _ in rows]}, schema=schema)
ways = {
    "snappy": dict(compression="snappy"),
    "plain": dict(compression="none", use_dictionary=False),
    "version-2": dict(compression="zstd", data_page_version="2.0", use_dictionary=False),
    "indexed": dict(compression="snappy", write_page_index=True),
    "dictionary": dict(compression="gzip", data_page_version="2.0", dictionary_pagesize_limit=600),
}
for name, way in ways.items():
    file = out / "pages" / f"{name}.parquet"
    pq.write_table(table, file, row_group_size=25, data_page_size=256, write_batch_size=3, **way)
(out / "pages.json").write_text(json.dumps([{"label": label, "pixel": pixel} for label, pixel in rows]) + "\n")

# Groups of rows of one page, as files of the Hub are. Large ones are many fragments of Snappy, small ones have statistics, which hold whole
# values; behind the end of an image a byte follows, so that values end in any way.
(out / "groups").mkdir(exist_ok=True)
noise = random.Random(1)


def large(colour, i):
    first = bytes(colour) + bytes(noise.randrange(256) for _ in range(3 * 57))
    return png(colour, 58, 58, 0, first) + bytes([7 * i % 256])


def small(colour, i):
    return png(colour) + bytes([7 * i % 256])


ways = {
    "snappy": (large, dict(compression="snappy")),
    "snappy-no-dictionary": (large, dict(compression="snappy", use_dictionary=False)),
    "snappy-version-2": (large, dict(compression="snappy", use_dictionary=False, data_page_version="2.0")),
    "zstd": (large, dict(compression="zstd")),
    "plain": (small, dict(compression="none")),
    "plain-no-dictionary": (small, dict(compression="none", use_dictionary=False)),
    "lengths": (small, dict(compression="snappy", use_dictionary=False, column_encoding="DELTA_LENGTH_BYTE_ARRAY")),
}
for name, (image, way) in ways.items():
    images = [{"bytes": pixel and image(pixel, i), "path": f"{i}.png"} for i, (_, pixel) in enumerate(rows)]
    table = pa.table({"image": images, "label": pa.array([label for label, _ in rows], pa.int64())}, schema=schema)
    if "column_encoding" in way:
        way = {**way, "column_encoding": {"image.bytes": way["column_encoding"]}}
    pq.write_table(table, out / "groups" / f"{name}.parquet", row_group_size=25, **way)

# More rows than a function takes arguments; only the last one has an image.
count = 200_000
images = [None] * (count - 1) + [{"bytes": png([1, 2, 3]), "path": "last.png"}]
table = pa.table({"image": images, "label": pa.array([0] * count, pa.int64())}, schema=schema)
pq.write_table(table, out / "many.parquet", compression="snappy")

# A row without a class.
images = [{"bytes": png([1, 2, i]), "path": f"{i}.png"} for i in range(3)]
table = pa.table({"image": images, "label": pa.array([1, None, 0], pa.int64())}, schema=schema)
pq.write_table(table, out / "no-class.parquet", compression="snappy")

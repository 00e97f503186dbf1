#!/usr/bin/python3
"""Small image files of many kinds, and what Pillow makes of them.

    /usr/bin/python3 -B tools/reference/images.py

writes tests/fixtures/images: the files, and pillow.json with `convert('RGB')` of each ("rgb"), and where they differ
what a person should see ("upright": turned by ImageOps.exif_transpose, laid on [200, 100, 50] and rounded).
Three larger files that lie there already are read as they are.
Made with Pillow 9.4, libjpeg-turbo 2.1.5, libwebp 1.2.4, libtiff 4.5.
"""
import base64
import io
import json
import pathlib
import struct
import zlib

import numpy as np
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests/fixtures/images"
BACKGROUND = (200, 100, 50)
W, H = 11, 7
made = {}


def smooth(w, h, bands, seed):
    """Something like a photograph: slopes, an edge, a little noise."""
    rng = np.random.RandomState(seed)
    y, x = np.mgrid[0:h, 0:w]
    planes = [
        127 + 90 * np.sin(x * (0.2 + 0.07 * b) + b) * np.cos(y * 0.3 - b) + 25 * (x + y > (w + h) / 2)
        for b in range(bands)
    ]
    return np.clip(np.stack(planes, -1) + rng.uniform(-8, 8, (h, w, bands)), 0, 255).astype(np.uint8)


def noise(w, h, bands, seed, high=256, dtype=np.uint8):
    return np.random.RandomState(seed).randint(0, high, (h, w, bands)).astype(dtype)


def put(name, data):
    made[name] = data


def save(name, image, **options):
    out = io.BytesIO()
    image.save(out, **options)
    put(name, out.getvalue())


# PNG, written here: Pillow writes few of its kinds.


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def packed(rows, bits):
    """Samples of less than a byte, most significant first; of 16 bits big-endian."""
    if bits == 16:
        return rows.astype(">u2").tobytes()
    if bits == 8:
        return rows.astype(np.uint8).tobytes()
    spread = (rows[:, None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(spread.astype(np.uint8).reshape(-1)).tobytes()


ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def png(samples, bits, colour, extra=b"", interlaced=False):
    h, w, _ = samples.shape
    passes = ADAM7 if interlaced else [(0, 0, 1, 1)]
    raw = b""
    for x, y, dx, dy in passes:
        part = samples[y::dy, x::dx]
        if part.size:
            raw += b"".join(b"\0" + packed(row.reshape(-1), bits) for row in part)
    head = struct.pack(">IIBBBBB", w, h, bits, colour, 0, 0, int(interlaced))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    )


def odd_profile():
    """sRGB with red and blue exchanged: whoever applies it shows other colours."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    place = {}
    for i in range(struct.unpack(">I", data[128:132])[0]):
        tag, offset, size = struct.unpack(">4sII", data[132 + 12 * i : 144 + 12 * i])
        place[tag] = (offset, size)
    (r, n), (b, _) = place[b"rXYZ"], place[b"bXYZ"]
    data[r : r + n], data[b : b + n] = data[b : b + n], data[r : r + n]
    return bytes(data)


GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
for bits in (1, 2, 4, 8, 16):
    grey = noise(W, H, 1, bits, 1 << bits, np.uint16)
    if bits == 16:
        grey[:4] //= 200  # some below 256: Pillow cuts the others off
    put(f"grey{bits}.png", png(grey, bits, GREY))
    put(f"grey{bits}-key.png", png(grey, bits, GREY, chunk(b"tRNS", struct.pack(">H", grey[0, 0, 0]))))
for bits in (8, 16):
    put(f"rgb{bits}.png", png(noise(W, H, 3, 20 + bits, 1 << bits, np.uint16), bits, RGB))
    put(f"rgba{bits}.png", png(noise(W, H, 4, 30 + bits, 1 << bits, np.uint16), bits, RGBA))
    put(f"grey-alpha{bits}.png", png(noise(W, H, 2, 40 + bits, 1 << bits, np.uint16), bits, GREY_ALPHA))
keyed = noise(W, H, 3, 50, 256, np.uint16)
put("rgb8-key.png", png(keyed, 8, RGB, chunk(b"tRNS", struct.pack(">HHH", *keyed[2, 3]))))
palette = noise(256, 1, 3, 60).tobytes()
for bits in (1, 2, 4, 8):
    index = noise(W, H, 1, 61 + bits, 1 << bits, np.uint16)
    colours = chunk(b"PLTE", palette[: 3 << bits])
    alpha = chunk(b"tRNS", noise(1 << bits, 1, 1, 62)[0, :, 0].tobytes())
    put(f"palette{bits}.png", png(index, bits, PALETTE, colours))
    put(f"palette{bits}-alpha.png", png(index, bits, PALETTE, colours + alpha))
put("beyond-palette.png", png(noise(W, H, 1, 77, 32, np.uint16), 8, PALETTE, chunk(b"PLTE", palette[:48])))
put("interlaced.png", png(noise(W, H, 3, 70, 256, np.uint16), 8, RGB, interlaced=True))
put("interlaced-palette4.png", png(noise(W, H, 1, 71, 16, np.uint16), 4, PALETTE, chunk(b"PLTE", palette[:48]), True))
put("gamma.png", png(noise(W, H, 3, 72, 256, np.uint16), 8, RGB, chunk(b"gAMA", struct.pack(">I", 100000))))
save("profile.png", Image.fromarray(noise(W, H, 3, 73)), format="PNG", icc_profile=odd_profile())
frames = [Image.fromarray(noise(W, H, 3, 74 + i)) for i in range(2)]
save("animated.png", frames[0], format="PNG", save_all=True, append_images=frames[1:])
exif = Image.Exif()
exif[0x0112] = 6
save("turned.png", Image.fromarray(noise(W, H, 4, 76)), format="PNG", exif=exif)

# JPEG

photo = Image.fromarray(smooth(29, 19, 3, 1))
for name, subsampling in (("444", 0), ("422", 1), ("420", 2)):
    save(f"rgb-{name}.jpg", photo, format="JPEG", quality=85, subsampling=subsampling)
save("progressive.jpg", photo, format="JPEG", quality=85, progressive=True)
save("grey.jpg", photo.convert("L"), format="JPEG", quality=85)
save("profile.jpg", photo, format="JPEG", quality=85, icc_profile=odd_profile())
for orientation in range(1, 9):
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(f"exif-{orientation}.jpg", Image.fromarray(smooth(13, 7, 3, 2)), format="JPEG", quality=90, exif=exif)


def segments(data):
    """Marker segments of a JPEG file up to the scan, and the rest."""
    found, at = [], 2
    while data[at + 1] != 0xDA:
        size = struct.unpack(">H", data[at + 2 : at + 4])[0] + 2
        found.append((data[at + 1], data[at : at + size]))
        at += size
    return found, data[at:]


def adobe(transform):
    return b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + bytes([transform])


def remade(data, drop, marker=b""):
    found, rest = segments(data)
    return b"\xff\xd8" + marker + b"".join(segment for kind, segment in found if kind not in drop) + rest


out = io.BytesIO()
Image.fromarray(smooth(23, 17, 4, 3), "CMYK").save(out, format="JPEG", quality=90)
put("cmyk-adobe.jpg", out.getvalue())
put("cmyk-plain.jpg", remade(out.getvalue(), (0xEE,)))
put("ycck.jpg", remade(out.getvalue(), (0xEE,), adobe(2)))
out = io.BytesIO()
photo.save(out, format="JPEG", quality=90, subsampling=0)
put("rgb-adobe.jpg", remade(out.getvalue(), (0xE0,), adobe(0)))
exif = Image.Exif()
exif[0x0112] = 8
save("cmyk-turned.jpg", Image.fromarray(smooth(13, 7, 4, 4), "CMYK"), format="JPEG", quality=90, exif=exif)

# GIF

flat = Image.fromarray(noise(W, H, 1, 80, 16)[:, :, 0], "P")
flat.putpalette(palette[:48])
save("palette.gif", flat, format="GIF")
save("clear.gif", flat, format="GIF", transparency=5)
save("grey.gif", Image.fromarray(noise(W, H, 1, 81)[:, :, 0]), format="GIF")
wide = Image.fromarray(noise(40, 37, 1, 82, 200)[:, :, 0], "P")
wide.putpalette(palette[:600])
save("interlaced.gif", wide, format="GIF", interlace=1)
second = Image.fromarray(noise(W, H, 1, 83, 16)[:, :, 0], "P")
second.putpalette(palette[:48])
save("animated.gif", flat, format="GIF", save_all=True, append_images=[second], duration=100)


def offset(gif, left, top, screen):
    """The same frame, somewhere on a larger screen."""
    data = bytearray(gif)
    data[6:10] = struct.pack("<HH", *screen)
    at = 13 + 3 * (2 << (data[10] & 7))
    while data[at] == 0x21:
        at += 2
        while data[at]:
            at += data[at] + 1
        at += 1
    data[at + 1 : at + 5] = struct.pack("<HH", left, top)
    return bytes(data)


beyond = bytearray(made["grey.gif"])
rest = 13 + 3 * (2 << (beyond[10] & 7))
beyond[10] = (beyond[10] & 0xF8) | 3  # 16 of the colours that are used
put("beyond-palette.gif", bytes(beyond[: 13 + 48] + beyond[rest:]))
put("larger-than-screen.gif", offset(made["palette.gif"], 2, 3, (5, 4)))
put("offset.gif", offset(made["palette.gif"], 2, 3, (W + 4, H + 5)))
put("offset-clear.gif", offset(made["clear.gif"], 2, 3, (W + 4, H + 5)))

# WebP

save("lossless.webp", Image.fromarray(noise(W, H, 3, 90)), format="WEBP", lossless=True)
save("lossless-alpha.webp", Image.fromarray(noise(W, H, 4, 91)), format="WEBP", lossless=True, exact=True)
save("lossy.webp", photo, format="WEBP", quality=80)
save("lossy-alpha.webp", Image.fromarray(smooth(21, 15, 4, 5)), format="WEBP", quality=80)
save("animated.webp", frames[0], format="WEBP", save_all=True, append_images=frames[1:], lossless=True)
exif = Image.Exif()
exif[0x0112] = 3
save("turned.webp", Image.fromarray(noise(W, H, 3, 92)), format="WEBP", lossless=True, exif=exif)

# TIFF

rgb = Image.fromarray(noise(W, H, 3, 100))
for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"):
    save(f"rgb-{compression.replace('tiff_', '').replace('adobe_', '')}.tif", rgb, format="TIFF", compression=compression)
save("jpeg.tif", photo, format="TIFF", compression="jpeg", quality=90)
save("grey.tif", rgb.convert("L"), format="TIFF")
save("bilevel.tif", rgb.convert("1"), format="TIFF")
save("group4.tif", rgb.convert("1"), format="TIFF", compression="group4")
save("palette.tif", flat, format="TIFF")
save("grey-alpha.tif", Image.fromarray(noise(W, H, 2, 101), "LA"), format="TIFF")
save("rgba.tif", Image.fromarray(noise(W, H, 4, 102)), format="TIFF")
save("cmyk.tif", Image.fromarray(noise(W, H, 4, 103), "CMYK"), format="TIFF")
deep = noise(W, H, 1, 104, 65536, np.uint16)[:, :, 0]
deep[:4] //= 200
save("grey16.tif", Image.fromarray(deep), format="TIFF")
save("float.tif", Image.fromarray((deep / 150 - 20).astype(np.float32)), format="TIFF")
save("int32.tif", Image.fromarray((deep.astype(np.int32) - 100)), format="TIFF")
save("pages.tif", rgb, format="TIFF", save_all=True, append_images=[frames[1]])
save("turned.tif", rgb, format="TIFF", tiffinfo={274: 6})
save("profile.tif", rgb, format="TIFF", icc_profile=odd_profile())


def tiff(samples, bits, photometric, extra=None, order=">", tags=()):
    """One uncompressed strip."""
    h, w, bands = samples.shape
    data = samples.astype(order + ("u2" if bits == 16 else "u1")).tobytes()
    entries = [(256, 3, [w]), (257, 3, [h]), (258, 3, [bits] * bands), (259, 3, [1]), (262, 3, [photometric])]
    entries += [(273, 4, [8]), (277, 3, [bands]), (278, 3, [h]), (279, 4, [len(data)]), (284, 3, [1]), *tags]
    if extra is not None:
        entries.append((338, 3, [extra]))
    entries.sort()
    data += b"\0" * (len(data) % 2)
    start, values, table = 8 + len(data), b"", b""
    after = start + 2 + 12 * len(entries) + 4
    for tag, kind, items in entries:
        raw = struct.pack(order + ("H" if kind == 3 else "I") * len(items), *items)
        if len(raw) > 4:
            place, values = struct.pack(order + "I", after + len(values)), values + raw
        else:
            place = raw.ljust(4, b"\0")
        table += struct.pack(order + "HHI", tag, kind, len(items)) + place
    head = (b"MM\0*" if order == ">" else b"II*\0") + struct.pack(order + "I", start)
    return head + data + struct.pack(order + "H", len(entries)) + table + b"\0\0\0\0" + values


put("rgb16.tif", tiff(noise(W, H, 3, 110, 65536, np.uint16), 16, 2))
put("rgba16.tif", tiff(noise(W, H, 4, 111, 65536, np.uint16), 16, 2, 2, "<"))
put("white-is-zero.tif", tiff(noise(W, H, 1, 112), 8, 0))
premultiplied = noise(W, H, 4, 113)
premultiplied[..., :3] = premultiplied[..., :3] * (premultiplied[..., 3:] / 255)
put("premultiplied.tif", tiff(premultiplied, 8, 2, 1))
put("unknown-extra.tif", tiff(noise(W, H, 4, 114), 8, 2, 0))
put("turned5.tif", tiff(noise(W, H, 3, 115), 8, 2, tags=[(274, 3, [5])]))

# BMP


def bmp(rows, bits, *, compression=0, header=40, colours=b"", masks=b"", top_down=False, size=(W, H)):
    """rows: bytes of every row from the top, not yet padded; for run-length coding the whole data."""
    if isinstance(rows, list):
        padded = [row + b"\0" * (-len(row) % 4) for row in rows]
        data = b"".join(padded if top_down else padded[::-1])
    else:
        data = rows
    w, h = size
    if header == 12:
        info = struct.pack("<IHHHH", 12, w, h, 1, bits)
    else:
        used = len(colours) // 4 if bits <= 8 else 0
        info = struct.pack("<IiiHHIIiiII", header, w, -h if top_down else h, 1, bits, compression, len(data), 0, 0, used, 0)
        info += masks if header == 40 else masks.ljust(header - 40, b"\0")
    start = 14 + len(info) + len(colours)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + info + colours + data


def rows_of(samples, bits):
    return [packed(row.reshape(-1), bits) for row in samples]


four = b"".join(palette[3 * i : 3 * i + 3] + b"\0" for i in range(256))
for bits in (1, 4, 8):
    index = noise(W, H, 1, 120 + bits, 1 << bits, np.uint16)
    put(f"palette{bits}.bmp", bmp(rows_of(index, bits), bits, colours=four[: 4 << bits]))
index = noise(W, H, 1, 130, 16)
put("os2-palette4.bmp", bmp(rows_of(index, 4), 4, header=12, colours=palette[:48]))
put("few-colours.bmp", bmp(rows_of(index, 8), 8, colours=four[: 4 * 16]))
put("beyond-palette.bmp", bmp(rows_of(noise(W, H, 1, 136, 32), 8), 8, colours=four[: 4 * 16]))
full = noise(W, H, 3, 131)
put("rgb.bmp", bmp(rows_of(full, 8), 24))
put("os2-rgb.bmp", bmp(rows_of(full, 8), 24, header=12))
put("top-down.bmp", bmp(rows_of(full, 8), 24, top_down=True))
quads = noise(W, H, 4, 132)
put("rgbx.bmp", bmp(rows_of(quads, 8), 32))
mask = lambda *masks: struct.pack(f"<{len(masks)}I", *masks)
put("bgra.bmp", bmp(rows_of(quads, 8), 32, compression=3, header=108, masks=mask(0xFF0000, 0xFF00, 0xFF, 0xFF000000)))
put("rgba.bmp", bmp(rows_of(quads, 8), 32, compression=3, header=124, masks=mask(0xFF, 0xFF00, 0xFF0000, 0xFF000000)))
put("xbgr.bmp", bmp(rows_of(quads, 8), 32, compression=3, masks=mask(0xFF000000, 0xFF0000, 0xFF00)))
pairs = noise(W, H, 2, 133)
put("rgb555.bmp", bmp(rows_of(pairs, 8), 16))
put("rgb565.bmp", bmp(rows_of(pairs, 8), 16, compression=3, masks=mask(0xF800, 0x7E0, 0x1F)))
save("pillow-grey.bmp", Image.fromarray(noise(W, H, 1, 134)[:, :, 0]), format="BMP")
save("pillow-bilevel.bmp", rgb.convert("1"), format="BMP")
save("pillow-rgba.bmp", Image.fromarray(noise(W, H, 4, 135)), format="BMP")
runs8 = b"".join(
    bytes([4, i + 1, 0, 5, 9, 8, 7, 6, 5 + i, 0, 2, 3]) + (b"\0\0" if i < H - 1 else b"\0\1") for i in range(H)
)
put("runs8.bmp", bmp(runs8, 8, compression=1, colours=four[: 4 * 16]))
runs4 = b"".join(
    bytes([4, 0x12 + i, 0, 6, 0x98, 0x76, 0x54, 0, 1, 0x33]) + (b"\0\0" if i < H - 1 else b"\0\1") for i in range(H)
)
put("runs4.bmp", bmp(runs4, 4, compression=2, colours=four[: 4 * 16]))

# Netpbm

bits = noise(W, H, 1, 140, 2)
put("plain.pbm", b"P1 # bits\n%d %d\n" % (W, H) + b"\n".join(b" ".join(b"%d" % v for v in row[:, 0]) for row in bits))
put("raw.pbm", b"P4\n%d %d\n" % (W, H) + b"".join(packed(row.reshape(-1), 1) for row in bits))
for most in (15, 255, 1000, 65535):
    grey, colour = (noise(W, H, bands, 141 + bands, most + 1, np.uint16) for bands in (1, 3))
    if most > 255:
        grey[:4] //= 1 + most // 300
    text = lambda samples: b" ".join(b"%d" % v for v in samples.reshape(-1))
    raw = lambda samples: samples.astype("u1" if most < 256 else ">u2").tobytes()
    head = lambda kind: kind + b"\n# made by hand\n%d %d\n%d\n" % (W, H, most)
    put(f"plain{most}.pgm", head(b"P2") + text(grey))
    put(f"raw{most}.pgm", head(b"P5") + raw(grey))
    put(f"plain{most}.ppm", head(b"P3") + text(colour))
    put(f"raw{most}.ppm", head(b"P6") + raw(colour))


def upright(path):
    """Turned, and laid on the background."""
    image = Image.open(path)
    image.load()
    kind = image.format
    if kind != "TIFF":  # those are turned already, and exif_transpose would do it once more
        image = ImageOps.exif_transpose(image)
    key = image.info.get("transparency") if path.name.endswith("-key.png") else None
    if image.mode == "I" and kind in ("PNG", "PPM") or image.mode == "I;16":  # 16 bits of grey
        grey = np.asarray(image).astype(np.int64)[..., None]
        colour, alpha = np.repeat(grey >> 8, 3, -1), np.where(grey == key, 0, 255)
    elif image.mode in ("1", "L") and key is not None:  # Pillow compares the key with values that are stretched already
        grey = np.asarray(image.convert("L")).astype(np.int64)[..., None]
        stretched = key * 255 // ((1 << path.read_bytes()[24]) - 1)
        colour, alpha = np.repeat(grey, 3, -1), np.where(grey == stretched, 0, 255)
    elif image.mode in ("CMYK", "F", "I"):
        return np.asarray(image.convert("RGB"))
    else:
        rgba = np.asarray(image.convert("RGBA")).astype(np.int64)
        colour, alpha = rgba[..., :3], rgba[..., 3:]
    return ((2 * (colour * alpha + np.array(BACKGROUND) * (255 - alpha)) + 255) // 510).astype(np.uint8)


OUT.mkdir(parents=True, exist_ok=True)
for name, data in made.items():
    (OUT / name).write_bytes(data)
text = lambda pixels: base64.b64encode(pixels.tobytes()).decode()
found = {}
for path in sorted(OUT.iterdir()):
    if path.suffix == ".json":
        continue
    image = Image.open(path)
    image.load()
    rgb = np.asarray(image.convert("RGB"))
    shown = upright(path)
    entry = {"mode": image.mode, "width": image.width, "height": image.height, "rgb": text(rgb)}
    if shown.shape != rgb.shape or (shown != rgb).any():
        entry["upright"] = {"width": shown.shape[1], "height": shown.shape[0], "rgb": text(shown)}
    found[path.name] = entry
(OUT / "pillow.json").write_text(json.dumps(found, indent=0, sort_keys=True) + "\n")
print(len(found), "files,", sum(len(data) for data in made.values()), "bytes")

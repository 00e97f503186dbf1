#!/usr/bin/python3
"""The order in which torchvision's ImageFolder lists a tree with links in it.

    /usr/bin/python3 -B tools/reference/image-folder.py

writes tests/fixtures/image-folder.json: the tree (a name that ends in / is a folder, NAME -> TARGET is a link), the classes,
and every image with its class. Made with torchvision 0.14.
"""
import json
import pathlib
import tempfile

from torchvision.datasets import ImageFolder

TREE = [
    "set/b/", "set/b/2.png", "set/b/10.png", "set/b/A.png", "set/b/a.PNG",
    "set/b/z/", "set/b/z/1.png", "set/b/z/deep/", "set/b/z/deep/0.jpg",
    "set/b/z-y/", "set/b/z-y/3.jpeg", "set/b/m.webp", "set/b/z.bmp",
    "set/B/", "set/B/x.tif", "set/B/x.tiff", "set/B/x.ppm", "set/B/x.pgm",
    "set/\u00e4/", "set/\u00e4/\U0001f600.png", "set/\u00e4/\uf900.png", "set/\u00e4/z.png",
    "set/\U0001f41f/", "set/\U0001f41f/1.png", "set/\uff46/", "set/\uff46/1.png",
    "elsewhere/", "elsewhere/7.png", "elsewhere/more/", "elsewhere/more/8.png", "one.png",
    "set/linked -> ../elsewhere", "set/b/inner -> ../../elsewhere/more", "set/b/3.png -> ../../one.png",
    "set/B/again -> ../b/z",
]

with tempfile.TemporaryDirectory() as home:
    root = pathlib.Path(home)
    for item in TREE:
        name, _, target = item.partition(" -> ")
        path = root / name
        if target:
            path.symlink_to(target)
        elif item.endswith("/"):
            path.mkdir(parents=True)
        else:
            path.write_bytes(b"")
    folder = ImageFolder(root / "set")
    samples = [[str(pathlib.Path(path).relative_to(root / "set")), label] for path, label in folder.samples]
    found = {"tree": TREE, "classes": folder.classes, "samples": samples}
out = pathlib.Path(__file__).resolve().parents[2] / "tests/fixtures/image-folder.json"
out.write_text(json.dumps(found, indent=1, ensure_ascii=True) + "\n")
print(len(samples), "images of", folder.classes)

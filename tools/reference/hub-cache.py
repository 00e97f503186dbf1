"""What Python's huggingface_hub writes into its cache for a repository, as a listing in JSON on standard output.

    python -B tools/reference/hub-cache.py ENDPOINT CACHE [--missing FILE] [--shared FILE=HASH] REVISION...

fetches every file of each revision from the hub at ENDPOINT into the folder CACHE, asks for a file that is not there
(--missing), and lets the library put a fetched file into the store that repositories share (--shared, with the hash that
the file has there). tests/hub-cache.test.ts starts the hub and writes the fixture by it:

    HUB_PYTHON=python HUB_CACHE_LISTING=tests/fixtures/hub-cache.json npx vitest run tests/hub-cache.test.ts

The listing: version of the library, and every entry of the cache that is no folder: a link's target, or a file's size,
SHA-256 and mode (with umask 022), and its text where it is none of the repository's files.
"""

import argparse
import hashlib
import json
import os
import stat
import sys

REPOSITORY = "acme/tiny"

arguments = argparse.ArgumentParser()
arguments.add_argument("endpoint")
arguments.add_argument("cache")
arguments.add_argument("revisions", nargs="+")
arguments.add_argument("--missing")
arguments.add_argument("--shared")
given = arguments.parse_args()

os.umask(0o022)
os.environ.update(
    HF_ENDPOINT=given.endpoint,
    HF_HUB_CACHE=given.cache,
    HF_HOME=os.path.join(given.cache, os.pardir, "home"),
    HF_HUB_DISABLE_XET="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    HF_HUB_DISABLE_SYMLINKS_WARNING="1",
)

import huggingface_hub  # noqa: E402
from huggingface_hub.errors import EntryNotFoundError  # noqa: E402

for revision in given.revisions:
    huggingface_hub.snapshot_download(REPOSITORY, revision=revision)
if given.missing:
    try:
        huggingface_hub.hf_hub_download(REPOSITORY, given.missing)
        sys.exit(f"{given.missing} is there")
    except EntryNotFoundError:
        pass
if given.shared:
    from huggingface_hub.utils._shared_blobs import publish_blob_to_shared_store

    name, shared_hash = given.shared.split("=")
    pointer = huggingface_hub.hf_hub_download(REPOSITORY, name)
    blob = os.path.join(os.path.dirname(pointer), os.readlink(pointer))
    is_shared = publish_blob_to_shared_store(
        blob_path=os.path.normpath(blob),
        xet_hash=shared_hash,
        cache_dir=given.cache,
        expected_size=os.path.getsize(pointer),
    )
    if not is_shared:
        sys.exit(f"{name} was not taken into the shared store")


def is_content(place: str) -> bool:
    parts = place.split("/")
    in_store = parts[0] == "blobs" and parts[-1] == given.shared.split("=")[1] if given.shared else False
    return in_store or parts[1] in ("blobs", "snapshots") and parts[0].startswith("models--")


def entry_of(place: str, full: str) -> dict:
    if os.path.islink(full):
        return {"link": os.readlink(full).replace(os.sep, "/")}
    with open(full, "rb") as file:
        content = file.read()
    found = {"size": len(content), "mode": f"{stat.S_IMODE(os.stat(full).st_mode):o}"}
    if "/" in place and is_content(place):
        return {**found, "sha256": hashlib.sha256(content).hexdigest()}
    return {**found, "text": content.decode()}


entries = {}
for folder, _, names in os.walk(given.cache):
    for name in names:
        full = os.path.join(folder, name)
        place = os.path.relpath(full, given.cache).replace(os.sep, "/")
        entries[place] = entry_of(place, full)
version = huggingface_hub.__version__
print(json.dumps({"version": version, "entries": dict(sorted(entries.items()))}))

"""Tars and parquet files of pictures, made of folders."""

from __future__ import annotations

import io
import json
import tarfile


def write_tar(path, members, format=tarfile.USTAR_FORMAT):
    """Write a tar of (name, bytes), in this order."""
    with tarfile.open(path, "w", format=format) as tar:
        for name, data in members:
            facts = tarfile.TarInfo(name)
            facts.size = len(data)
            tar.addfile(facts, io.BytesIO(data))
    return path


def write_webdataset(folder, pictures, per_tar, told=None):
    """Write (name, bytes) as photos-000000.tar and so on, with captions and metadata by key."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(0, len(pictures), per_tar):
        members = []
        for name, data in pictures[number : number + per_tar]:
            key = name.partition(".")[0]
            members.append((name, data))
            caption, metadata = (told or {}).get(name, (None, None))
            if caption is not None:
                members.append((f"{key}.txt", caption.encode()))
            if metadata is not None:
                members.append((f"{key}.json", json.dumps(metadata).encode()))
        write_tar(folder / f"photos-{number // per_tar:06}.tar", members)
    return folder

"""The stretch of a series that a flag's plot shows, packed beside the flag.

Little-endian: the times as int64, then observed, expected, lower and upper as float32; where the peers
are known, WITH_PEERS goes before and their two lines follow.
"""

from __future__ import annotations

import zlib

import numpy as np

from anomaly.records import Band

WITH_PEERS = b"\x02"  # never the first byte of what zlib compresses


def packed(band: Band | None) -> bytes | None:
    """A band as bytes."""
    if band is None:
        return None
    lines = (band.observed, band.expected, band.lower, band.upper, *(band.peers or ()))
    parts = [band.times.astype("<i8"), *(line.astype("<f4") for line in lines)]
    content = zlib.compress(b"".join(part.tobytes() for part in parts))
    return content if band.peers is None else WITH_PEERS + content


def unpacked(content: bytes | None) -> Band | None:
    """The band that was packed."""
    if content is None:
        return None
    count = 6 if content.startswith(WITH_PEERS) else 4
    plain = zlib.decompress(content.removeprefix(WITH_PEERS))
    steps = len(plain) // (8 + 4 * count)
    times = np.frombuffer(plain, "<i8", steps).astype(np.int64)
    lines = np.frombuffer(plain, "<f4", offset=8 * steps).astype(np.float32).reshape(count, steps)
    peers = (lines[4], lines[5]) if count == 6 else None
    return Band(times, lines[0], lines[1], lines[2], lines[3], peers)

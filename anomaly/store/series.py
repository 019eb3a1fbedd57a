"""The stretch of a series that a flag's plot shows, packed beside the flag.

Little-endian: the times as int64, then observed, expected, lower and upper as float32.
"""

from __future__ import annotations

import zlib

import numpy as np

from anomaly.records import Band

STEP_BYTES = 8 + 4 * 4


def packed(band: Band | None) -> bytes | None:
    """A band as bytes."""
    if band is None:
        return None
    lines = (band.observed, band.expected, band.lower, band.upper)
    parts = [band.times.astype("<i8"), *(line.astype("<f4") for line in lines)]
    return zlib.compress(b"".join(part.tobytes() for part in parts))


def unpacked(content: bytes | None) -> Band | None:
    """The band that was packed."""
    if content is None:
        return None
    plain = zlib.decompress(content)
    steps = len(plain) // STEP_BYTES
    times = np.frombuffer(plain, "<i8", steps).astype(np.int64)
    lines = np.frombuffer(plain, "<f4", offset=8 * steps).astype(np.float32).reshape(4, steps)
    return Band(times, lines[0], lines[1], lines[2], lines[3])

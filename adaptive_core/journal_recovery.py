"""Makes the bytes of an HDF5 file readable whose writer died.

A file that is written in SWMR mode is marked as such until its writer closes it, and HDF5 opens a marked file in SWMR
mode only. That mode waits without end for damaged parts to become right (HDF5 2.0), so a damaged journal could hang its
reader. Without the mark it is an ordinary file, for whose parts SWMR has guaranteed the order of writing; ``h5clear``
takes it off in the same way.
"""

from __future__ import annotations

import struct

# Superblock of version 3 (HDF5 file format specification 3.0, II.A): signature, version, sizes of offsets and lengths,
# consistency flags, base address, superblock extension's address, end-of-file address, root group's address.
_SUPERBLOCK = struct.Struct("<8sBBBBQQQQ")
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_WORD = 0xFFFFFFFF


def without_writer(image: bytes) -> bytes:
    """The bytes of an HDF5 file, not marked as being written to; bytes that are none are left as they are."""
    size = _SUPERBLOCK.size
    if len(image) < size + 4:
        return image
    signature, version, offsets, lengths, flags, base, extension, _, root = _SUPERBLOCK.unpack_from(image)
    intact = checksum(image[:size]) == int.from_bytes(image[size : size + 4], "little")
    if signature != _SIGNATURE or (version, offsets, lengths) != (3, 8, 8) or not flags or not intact:
        return image
    superblock = _SUPERBLOCK.pack(signature, version, offsets, lengths, 0, base, extension, len(image), root)
    return superblock + checksum(superblock).to_bytes(4, "little") + image[size + 4 :]


def checksum(superblock: bytes) -> int:
    """The hash that protects the 44 bytes of a superblock: Jenkins' lookup3 (burtleburtle.net/bob/c/lookup3.c)."""
    words = struct.unpack("<11I", superblock)
    a = b = c = (0xDEADBEEF + len(superblock)) & _WORD
    for i in (0, 3, 6):
        a, b, c = _mix(a + words[i], b + words[i + 1], c + words[i + 2])
    return _final(a + words[9], b + words[10], c)


def _rotate(value: int, bits: int) -> int:
    value &= _WORD
    return (value << bits | value >> 32 - bits) & _WORD


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    for bits in (4, 6, 8, 16, 19, 4):
        # The names change places from line to line in the original.
        a = ((a - c) & _WORD) ^ _rotate(c, bits)
        c += b
        a, b, c = b, c & _WORD, a
    return a, b, c


def _final(a: int, b: int, c: int) -> int:
    for bits in (14, 11, 25, 16, 4, 14, 24):
        c = ((c ^ b) - _rotate(b, bits)) & _WORD
        a, b, c = b, c, a
    return b

"""CRC-32C (Castagnoli), which TFRecord files use, at a speed that every record can be checked."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

_POLYNOMIAL = 0x82F63B78
_LANE_BYTES = 256


def masked_crc32c(data: bytes | memoryview) -> int:
    """CRC-32C in the masked form of TFRecord files."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def crc32c(data: bytes | memoryview) -> int:
    """CRC-32C of some bytes. Lanes of the data are worked through side by side, then joined."""
    table = _byte_table()
    head = len(data) % _LANE_BYTES
    crc = 0xFFFFFFFF
    for byte in bytes(data[:head]):
        crc = int(table[(crc ^ byte) & 0xFF]) ^ crc >> 8
    lanes = np.frombuffer(data, np.uint8, offset=head).reshape(-1, _LANE_BYTES)
    if len(lanes):
        own = np.zeros(len(lanes), np.uint32)
        for column in np.ascontiguousarray(lanes.T):
            own = table[(own ^ column) & 0xFF] ^ own >> np.uint32(8)
        crc = _joined(np.concatenate([np.array([crc], np.uint32), own]))
    return crc ^ 0xFFFFFFFF


def _joined(lanes: NDArray[np.uint32]) -> int:
    """The checksum of lanes in a row, from their own; pairs are joined until one is left.

    The checksum is linear: what came before a lane acts on it as if the lane were zeros. An odd
    number of lanes gets one of nothing in front, which changes nothing.
    """
    level = 0
    while len(lanes) > 1:
        if len(lanes) % 2:
            lanes = np.concatenate([np.zeros(1, np.uint32), lanes])
        before, own = lanes[::2], lanes[1::2]
        table = _zeros_table(level)
        moved = table[0, before & 0xFF]
        for byte in range(1, 4):
            moved = moved ^ table[byte, before >> np.uint32(8 * byte) & 0xFF]
        lanes = moved ^ own
        level += 1
    return int(lanes[0])


@functools.cache
def _byte_table() -> NDArray[np.uint32]:
    """What one byte, 0..255, does to the checksum."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = table >> np.uint32(1) ^ (table & np.uint32(1)) * np.uint32(_POLYNOMIAL)
    return table


@functools.cache
def _zeros_table(level: int) -> NDArray[np.uint32]:
    """The checksum after 2**level lanes of zeros, by each byte of the one before: 4 256."""
    state = np.arange(256, dtype=np.uint32)[None] << np.array([[0], [8], [16], [24]], np.uint32)
    if level == 0:
        table = _byte_table()
        for _ in range(_LANE_BYTES):
            state = table[state & 0xFF] ^ state >> np.uint32(8)
        return state
    for _ in range(2):
        table = _zeros_table(level - 1)
        state = functools.reduce(
            np.bitwise_xor,
            (table[byte, state >> np.uint32(8 * byte) & 0xFF] for byte in range(4)),
        )
    return state

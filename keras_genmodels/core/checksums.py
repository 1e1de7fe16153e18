"""CRC-32 of arrays; that of any selection of rows from those of the rows.

The checksum of A followed by B is that of A, advanced over as many zero bytes
as B has, XOR that of B. Advancing is linear over the 32 bits.

#### References

Adler (1995), `crc32_combine` of zlib.
"""

import zlib

import numpy as np

_POLYNOMIAL = 0xEDB88320
_SHIFTS = np.arange(32, dtype=np.uint32)
# A linear operator is the uint32 [32] of its images of the single bits.
_IDENTITY = np.left_shift(np.uint32(1), _SHIFTS)
# Advances by one zero bit.
_ONE_BIT = np.concatenate([[np.uint32(_POLYNOMIAL)], _IDENTITY[:-1]])


def of_rows(array):
    """Returns the CRC-32 of each row of an array, uint32 `[n]`."""
    rows = np.ascontiguousarray(array)
    return np.fromiter(map(zlib.crc32, rows), np.uint32, len(rows))


def of_array(array, start=0):
    """Returns the CRC-32 of an array that follows data of CRC-32 `start`."""
    return zlib.crc32(np.ascontiguousarray(array), start)


def joined(checksums, row_size, start=0):
    """Returns the CRC-32 of rows that follow each other.

    Args:
        checksums: uint32 `[n]`, of each row.
        row_size: int, bytes of a row.
        start: int, CRC-32 of what they follow.

    Returns:
        int, as `of_array` of the rows.
    """
    values = np.concatenate([[np.uint32(start)], checksums])
    advance = _power(_ONE_BIT, 8 * row_size)
    while len(values) > 1:
        if len(values) % 2:
            # 0 stands for no data, and is advanced to 0.
            values = np.concatenate([[np.uint32(0)], values])
        values = _apply(advance, values[::2]) ^ values[1::2]
        advance = _apply(advance, advance)
    return int(values[0])


def _apply(operator, values):
    """Applies an operator to uint32 `[n]`, one table for each byte."""
    result = np.zeros_like(values)
    numbers = np.arange(256, dtype=np.uint32)
    for byte in range(4):
        table = np.zeros(256, np.uint32)
        for bit in range(8):
            is_set = (numbers >> np.uint32(bit)) & np.uint32(1)
            table ^= is_set * operator[8 * byte + bit]
        result ^= table[(values >> np.uint32(8 * byte)) & np.uint32(255)]
    return result


def _power(operator, exponent):
    result = _IDENTITY
    while exponent:
        if exponent % 2:
            result = _apply(operator, result)
        operator = _apply(operator, operator)
        exponent //= 2
    return result

"""Checksums of rows in any order, without reading the rows."""

import zlib

import numpy as np
import pytest

from keras_genmodels.core import checksums


@pytest.mark.parametrize("count", [0, 1, 2, 3, 8, 101])
@pytest.mark.parametrize("shape", [(1,), (5, 3, 1)])
def test_the_checksum_of_rows_follows_from_those_of_each(count, shape):
    generator = np.random.default_rng(count)
    rows = generator.random((count, *shape), np.float32)
    of_rows = checksums.of_rows(rows)
    size = 4 * int(np.prod(shape))
    for start in (0, 0xFFFFFFFF, 123456789):
        expected = zlib.crc32(rows, start)
        assert checksums.joined(of_rows, size, start) == expected
        assert checksums.of_array(rows, start) == expected
    order = generator.permutation(count)
    expected = zlib.crc32(rows[order])
    assert checksums.joined(of_rows[order], size) == expected

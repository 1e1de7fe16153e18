"""Exact denoisers whose data the replicas of a strategy share."""

import itertools

import numpy as np
import pytest
from support import shared_denoisers
from support.forks import Fork
from support.worker_forks import start_workers

from keras_genmodels.denoisers import _shared_events

NUM_EVENTS = shared_denoisers.NUM_EVENTS


@pytest.mark.parametrize(
    ("policy", "kinds", "rtol", "atol"),
    [
        pytest.param(
            *("float64", ["uint8"], 1e-12, 1e-13), marks=pytest.mark.slow
        ),
        pytest.param(
            *("float32", ["uint8", "float32"], 1e-5, 1e-6),
            marks=pytest.mark.exhaustive,
        ),
    ],
)
def test_replicas_that_share_the_data_compute_what_one_device_does(
    policy, kinds, rtol, atol
):
    found = Fork(shared_denoisers.both, kinds, policy, num_devices=3).result()
    for one, several, places in found:
        for name, value in one.items():
            np.testing.assert_allclose(
                several[name], value, rtol=rtol, atol=atol, err_msg=name
            )
        assert places == [
            ("CPU:0", (234, 12)),
            ("CPU:1", (233, 12)),
            ("CPU:2", (233, 12)),
        ]


@pytest.mark.slow
def test_workers_that_share_the_data_compute_what_one_device_does():
    both = start_workers(2, shared_denoisers.on_workers)
    for one, several, places, message in [each.result() for each in both]:
        for name, value in one.items():
            np.testing.assert_allclose(
                several[name], value, rtol=1e-12, atol=1e-13, err_msg=name
            )
        assert places == [("CPU:0", (350, 12))]
        assert "shared among several workers" in message


@pytest.mark.slow
def test_a_file_holds_the_data_of_all_replicas():
    denoised, stored, is_shared, places = Fork(
        shared_denoisers.files, num_devices=2
    ).result()
    np.testing.assert_allclose(denoised[1], denoised[0], atol=1e-6)
    np.testing.assert_array_equal(denoised[2], denoised[0])
    pixels = shared_denoisers.data("uint8").reshape(NUM_EVENTS, -1)
    np.testing.assert_array_equal(stored[1], pixels)
    assert not is_shared
    assert [shape for _, shape in places] == [(350, 12)] * 2


@pytest.mark.slow
def test_what_needs_one_device_is_refused_by_name():
    found = Fork(shared_denoisers.refusals, num_devices=2).result()
    for message, word in zip(
        found,
        ["strategy.run", "2 replicas cannot share 1", "jit_compile", "export"],
        strict=True,
    ):
        assert word in message


@pytest.mark.parametrize(("size", "num"), [(7, 3), (6, 3), (3, 3)])
def test_replicas_share_rows_in_order_and_equally(size, num):
    parts = np.split(np.arange(size)[:, None], [2, 2, size - 1])
    bounds = [_shared_events._first_row(i, size, num) for i in range(num + 1)]
    own = [
        _shared_events._rows(parts, *pair)
        for pair in itertools.pairwise(bounds)
    ]
    assert np.concatenate(own).ravel().tolist() == list(range(size))
    assert {len(rows) for rows in own} <= {size // num, -(-size // num)}

"""Workers that train together: equal steps, kills, and lost workers."""

import random
import time

import numpy as np
import pytest
from support import replica_runs
from support.forks import Fork
from support.worker_forks import free_addresses, start_worker, start_workers

KIND = "importance_weighted"
# Seconds within which workers end when another one is gone.
GIVE_UP = 60


def start(num_workers, workdir):
    """Starts the workers of a run."""
    call = replica_runs.train, [KIND], "multi_worker", str(workdir)
    return start_workers(num_workers, *call)


def finish(workers):
    """Returns the weights and reports of all workers."""
    return [worker.result()[KIND] for worker in workers]


def saved_steps(workdir):
    folder = workdir / KIND / "checkpoints"
    return sorted(path.name for path in folder.glob("*.index"))


def kill_during(workdir, num_workers, victims, delay):
    """Kills workers some time after the run has saved something new."""
    known = saved_steps(workdir)
    workers = start(num_workers, workdir)
    try:
        deadline = time.monotonic() + 120
        while saved_steps(workdir) == known:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(delay)
        for index in victims:
            workers[index].kill()
        start_of_end = time.monotonic()
        for index, worker in enumerate(workers):
            if index not in victims:
                with pytest.raises(AssertionError, match="another worker"):
                    worker.result()
        assert time.monotonic() - start_of_end < GIVE_UP
    finally:
        for worker in workers:
            worker.kill()


def assert_same(one, other):
    """Checks that weights are equal to the last bit, and the reports."""
    for mine, theirs in zip(one[0], other[0], strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert one[1] == other[1]


@pytest.fixture(scope="module")
def on_two(tmp_path_factory):
    return finish(start(2, tmp_path_factory.mktemp("two")))


@pytest.mark.slow
def test_two_workers_take_the_steps_of_one_process(on_two):
    weights, report = Fork(replica_runs.train, [KIND], "one_device").result()[
        KIND
    ]
    for worker in on_two:
        for mine, theirs in zip(worker[0], weights, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-9)
        assert worker[1]["steps"] == report["steps"] == 100
        assert (worker[1]["parts"], report["parts"]) == ([2], [1])
        assert worker[1]["best_epoch"] == report["best_epoch"]
        loss = report["validation_loss"]
        assert worker[1]["validation_loss"] == pytest.approx(loss, rel=1e-5)
    assert_same(*on_two)


@pytest.mark.slow
def test_metrics_of_two_workers_are_those_of_one_process():
    call = replica_runs.metrics_of_keras
    both = start_workers(2, call, "multi_worker")
    expected = Fork(call, "one_device").result()
    assert {"loss", "elbo", "rate"} <= expected.keys()
    for found in [each.result() for each in both]:
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            assert found[name] == pytest.approx(values, rel=1e-6), name


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 1])
def test_a_worker_whose_others_do_not_start_names_them_and_ends(index):
    addresses = free_addresses(2)
    alone = start_worker(addresses, index, replica_runs.wait_alone)
    error, printed = alone.result()
    other = addresses[1 - index]
    assert other in error and "within 4 seconds" in error
    assert printed == f"Waiting for the other workers: {other}\n"


# Exhaustive: on a slow machine they take minutes, and on a very fast one a run
# may end before it is killed.
@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "victims", [[0], [1], [0, 1]], ids=["chief", "worker", "all"]
)
def test_killed_workers_end_as_those_that_were_not(on_two, tmp_path, victims):
    delay = random.Random(len(victims)).uniform(0, 0.3)
    kill_during(tmp_path, 2, victims, delay)
    for worker in finish(start(2, tmp_path)):
        assert_same(worker, on_two[0])


@pytest.mark.exhaustive
def test_three_workers_survive_kills(tmp_path):
    whole = finish(start(3, tmp_path / "whole"))
    kill_during(tmp_path / "cut", 3, [2], 0.1)
    for worker in finish(start(3, tmp_path / "cut")):
        assert_same(worker, whole[0])

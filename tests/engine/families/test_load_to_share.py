"""Models that an engine loads for jobs of other engines."""

import pytest

from tests.fixtures.bench import MANIFESTS, ONE, TWO, Bench, video_plan
from wan_mcp.engine.worker.load_ahead import LoadingRunner
from wan_mcp.errors import JobFailed


def quiet() -> None:
    """Let the load go on."""


def model(bench: Bench) -> str | None:
    found = bench.runner.loaded().generator
    return found[0] if found is not None else None


def test_a_model_is_loaded_that_can_then_join_jobs(bench: Bench) -> None:
    job = bench.job(video_plan(TWO))
    assert isinstance(bench.runner, LoadingRunner)
    bench.runner.load_ahead(job, quiet)
    assert model(bench) == TWO
    assert bench.runner.most_ranks(job, 2) == 2


def test_a_model_that_could_not_join_is_not_kept(bench: Bench) -> None:
    with pytest.raises(JobFailed, match="as diffusers has them"):
        bench.runner.load_ahead(bench.job(video_plan(ONE, guidance_scale=1.0)), quiet)
    assert model(bench) is None


def test_without_room_the_model_in_memory_stays(bench: Bench) -> None:
    bench.runner.load_ahead(bench.job(video_plan(ONE)), quiet)
    large = MANIFESTS[TWO].weights.model_copy(update={"memory_bytes": {"fp32": 10**15}})
    bench.catalog.manifests[TWO] = MANIFESTS[TWO].model_copy(update={"weights": large})
    with pytest.raises(JobFailed, match="no room"):
        bench.runner.load_ahead(bench.job(video_plan(TWO)), quiet)
    assert model(bench) == ONE


def test_a_load_stops_between_the_parts_of_a_model(bench: Bench) -> None:
    with pytest.raises(InterruptedError):
        bench.runner.load_ahead(bench.job(video_plan(TWO)), stop)
    assert model(bench) is None


def stop() -> None:
    raise InterruptedError

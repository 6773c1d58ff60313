"""Work on Ray: the same results as in one process, also where a node dies."""

from __future__ import annotations

import hashlib
import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from glmprep import tokenizer
from glmprep.bucket import Config, bucket
from glmprep.engines import Engine
from glmprep.engines.local import Serial
from glmprep.engines.ray import RayEngine
from glmprep.errors import InputError, UsageError
from glmprep.source import Source
from glmprep.store import Folder
from glmprep.tokenizing import Named

pytest.importorskip("ray", reason="Ray is not installed; it comes with extra ray")
NODE = {"num_cpus": 2, "object_store_memory": 80 << 20, "include_dashboard": False}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A Ray cluster of one node, to which tests add others."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args=NODE)
    yield cluster
    cluster.shutdown()


@pytest.fixture(scope="module")
def engine(cluster: Any) -> Iterator[RayEngine]:
    """An engine on it; joined once for all tests, since workers take seconds to start."""
    with RayEngine(cluster.address) as engine:
        yield engine


def digest_after(seconds: float, folder: Path) -> Callable[[int], tuple[int, str]]:
    """Work that leaves a file for each item, and a mark for each time that it was begun."""

    def work(item: int) -> tuple[int, str]:
        import uuid

        import ray

        node = ray.get_runtime_context().get_node_id() if ray.is_initialized() else "here"
        (folder / f"begun.{item}.{node}.{uuid.uuid4().hex}").touch()
        time.sleep(seconds)
        data = hashlib.sha256(str(item).encode()).digest() * 1000
        Folder(folder).write(str(item), [data])
        return item, hashlib.sha256(data).hexdigest()

    return work


@pytest.mark.slow
def test_nothing_is_lost_when_a_node_dies(cluster: Any, engine: RayEngine, tmp_path: Path) -> None:
    dying = cluster.add_node(**NODE)
    cluster.wait_for_nodes()
    (tmp_path / "ray").mkdir()
    (tmp_path / "here").mkdir()
    items = range(32)
    made = []
    for result in engine.map(digest_after(0.25, tmp_path / "ray"), items):
        made.append(result)
        if len(made) == 12:
            cluster.remove_node(dying, allow_graceful=False)
    assert made == list(Serial().map(digest_after(0, tmp_path / "here"), items))
    begun = [path.name.split(".") for path in (tmp_path / "ray").glob("begun.*")]
    on_dying = {int(item) for _, item, node, _ in begun if node == dying.node_id}
    assert on_dying, "the node that died had no work"
    assert len(begun) > len(items), "nothing was done again, so nothing was under way"
    for item in items:
        name = str(item)
        assert Folder(tmp_path / "ray").read(name) == Folder(tmp_path / "here").read(name)


@pytest.mark.slow
def test_shards_made_on_ray_are_the_same_bytes(
    engine: RayEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glmprep.blocks.BLOCK_BYTES", 100_000)  # so that there are many blocks
    on_ray = files(tmp_path / "ray", engine)
    assert on_ray == files(tmp_path / "here", Serial())
    assert any(name.startswith("shard-") for name in on_ray)


def files(folder: Path, engine: Engine) -> dict[str, str]:
    """Names and digests of all that `bucket` writes with an engine."""
    bucket(
        Source(paths=["sample:counselling"]),
        Folder(folder),
        tokenizing=Named(tokenizer=tokenizer.EMBEDDED),
        config=Config(max_length=2048),
        engine=engine,
    )
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.mark.slow
def test_items_are_drawn_as_there_is_room(engine: RayEngine) -> None:
    drawn = []

    def endless() -> Iterator[int]:
        for number in itertools.count():
            drawn.append(number)
            yield number

    results = engine.map(lambda number: number * number, endless())
    first = list(itertools.islice(results, 50))
    results.close()  # type: ignore[attr-defined]
    assert first == [number * number for number in range(50)]
    assert len(drawn) < 100


@pytest.mark.slow
def test_an_error_of_the_work_comes_out_as_it_was_raised(engine: RayEngine) -> None:
    def work(item: int) -> int:
        if item == 3:
            raise InputError("a.jsonl:3: broken")
        return item

    with pytest.raises(InputError) as caught:
        list(engine.map(work, range(10)))
    assert str(caught.value) == "a.jsonl:3: broken"
    assert type(caught.value) is InputError


@pytest.mark.slow
def test_work_that_kills_its_workers_is_given_up(engine: RayEngine) -> None:
    def work(_: int) -> None:
        import os

        os._exit(1)

    with pytest.raises(InputError, match="Ray gave up on a part of the work after 3 tries"):
        list(engine.map(work, [1]))


@pytest.mark.slow
def test_nodes_with_other_packages_are_refused(
    engine: RayEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glmprep.engines.ray._versions", lambda: {"Python": "2.7"})
    with pytest.raises(InputError, match=r"has Python 3\..* and not 2\.7"):
        list(engine.map(str, [1]))


OWN = """
import psutil
from glmprep.engines.ray import RayEngine

with RayEngine("local", workers=1) as engine:
    print(list(engine.map(str, range(3))))
    begun = psutil.Process().children(recursive=True)
assert begun
_, left = psutil.wait_procs(begun, timeout=20)
print(left)
"""


@pytest.mark.slow
def test_a_cluster_started_here_ends_with_the_engine_and_without_a_word() -> None:
    command = [sys.executable, "-W", "error::ResourceWarning", "-c", OWN]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert (done.stdout, done.stderr) == ("['0', '1', '2']\n[]\n", "")


def test_no_cluster_is_started_before_there_is_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with RayEngine():
        pass


def test_a_cluster_that_is_not_there_is_an_input_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with (
        RayEngine("127.0.0.1:1") as engine,
        pytest.raises(InputError, match=r"Ray at 127\.0\.0\.1:1: .*refused"),
    ):
        list(engine.map(str, [1]))


def test_ray_that_is_not_installed_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with RayEngine("local") as engine, pytest.raises(UsageError, match="pip install"):
        list(engine.map(str, [1]))

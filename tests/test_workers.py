"""Tasks side by side: whoever does them, one that dies costs its task, and what is wrong is one clear error.

Tasks are texts for `eval`, for worker processes cannot import a test.
"""

import os
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial

import pytest

from chipvi import _workers
from chipvi._workers import Task, Workers, choose_processes, free_memory, n_cores


def tasks_of(*texts: str) -> list[Task]:
    return [Task(f"task {n}", 10 + n, partial(eval, text)) for n, text in enumerate(texts)]


def run(workers: Workers, tasks: list[Task], shown: list[int] | None = None) -> dict[str, object]:
    show = [].append if shown is None else shown.append
    return {task.name: result for task, result in workers.run(tasks, show)}


KILL_ITSELF = "__import__('os').kill(__import__('os').getpid(), 9)"


def dies_first(marker, times: int = 1) -> str:
    """Kills its process as long as there are too few files of a name."""
    count = f"len(list(__import__('pathlib').Path({str(marker.parent)!r}).glob('{marker.name}*')))"
    touch = f"open({str(marker)!r} + str({count}), 'x').close()"
    return f"({touch}, {KILL_ITSELF}) if {count} < {times} else 'done'"


@pytest.fixture
def threads():
    with ThreadPoolExecutor(2) as executor:
        yield executor


@pytest.mark.parametrize("kind", ["here", "processes", "executor"])
def test_whoever_does_them_all_tasks_are_done_once_and_the_bar_ends_at_the_whole(kind, threads):
    workers = {
        "here": Workers(module="json"),
        "processes": Workers(3, module="json"),
        "executor": Workers(executor=threads),
    }[kind]
    shown: list[int] = []
    tasks = tasks_of(*(f"{n} ** 2" for n in range(7)))
    assert run(workers, tasks, shown) == {f"task {n}": n**2 for n in range(7)}
    assert shown == sorted(shown) and shown[-1] == sum(range(10, 17))


def test_a_task_whose_process_dies_is_done_again_and_no_other_is(tmp_path):
    log = tmp_path / "log"
    note = f"open({str(log)!r}, 'a').write('x')"
    tasks = tasks_of(dies_first(tmp_path / "died", times=2), *[note] * 5)
    assert run(Workers(2, module="json"), tasks) == {"task 0": "done"} | {f"task {n}": 1 for n in range(1, 6)}
    assert log.read_text() == "x" * 5


def test_a_task_over_which_three_processes_died_is_named_and_no_more_are_tried(tmp_path):
    tasks = tasks_of("1", dies_first(tmp_path / "died", times=9), "2")
    with pytest.raises(ChildProcessError, match="a worker died 3 times while it did task 1: was it out of memory"):
        run(Workers(2, module="json"), tasks)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_pool_of_ones_own_that_breaks_is_one_error_that_names_the_task():
    with (
        ProcessPoolExecutor(1, _workers.clean_context("json")) as executor,
        pytest.raises(ChildProcessError, match="a worker died while it did task 0"),
        _workers.script_not_run_again(),
    ):
        run(Workers(executor=executor), tasks_of(KILL_ITSELF))


@pytest.mark.parametrize("n", [1, 2])
def test_what_a_task_raises_ends_all(n, tmp_path):
    late = f"open({str(tmp_path / 'late')!r}, 'x')"
    with pytest.raises(ZeroDivisionError):
        run(Workers(n, module="json"), tasks_of("1", "1 / 0", *["__import__('time').sleep(0.1)"] * 9, late))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("n", [1, 2])
def test_what_is_reported_within_a_task_moves_the_bar(n):
    shown: list[int] = []
    halfway = "(__import__('chipvi._workers')._workers.report(6), __import__('time').sleep(0.6))"
    run(Workers(n, module="json"), tasks_of("1", halfway), shown)
    assert 10 + 6 in shown and shown[-1] == 21


def test_no_more_tasks_are_asked_for_than_are_given_out(threads, monkeypatch):
    monkeypatch.setattr(_workers, "_AT_ONCE", 3)
    asked, done = [], []

    def tasks():
        for task in tasks_of(*"123456789"):
            assert len(asked) - len(done) <= 3
            asked.append(task)
            yield task

    for task, _ in Workers(executor=threads).run(tasks(), [].append):
        done.append(task)
    assert len(done) == 9


def test_processes_are_limited_by_tasks_cores_and_memory(monkeypatch):
    monkeypatch.setattr(_workers, "n_cores", lambda: 6)
    monkeypatch.setattr(_workers, "free_memory", lambda: 2**32)
    assert choose_processes(100, 2**20) == 6
    assert choose_processes(100, 2**30) == 4
    assert choose_processes(3, 2**30) == 3
    assert choose_processes(100, 2**40) == choose_processes(0, 2**20) == 1


def test_cores_are_those_that_this_process_may_use():
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("the system does not say")
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert n_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_free_memory_is_the_least_of_the_machines_and_of_the_groups_above(tmp_path, monkeypatch):
    for name, text in {
        "meminfo": "MemTotal: 9000 kB\nMemAvailable:    4000 kB\n",
        "cgroup": "0::/job/step\n",
        "groups/job/step/memory.max": "max\n",
        "groups/job/step/memory.current": "9\n",
        "groups/job/memory.max": "5000000\n",
        "groups/job/memory.current": "2000000\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for name, file in {"_MEMORY_FILE": "meminfo", "_GROUP_FILE": "none", "_GROUPS": "groups"}.items():
        monkeypatch.setattr(_workers, name, tmp_path / file)
    assert free_memory() == 4_096_000
    monkeypatch.setattr(_workers, "_GROUP_FILE", tmp_path / "cgroup")
    assert free_memory() == 3_000_000
    monkeypatch.setattr(_workers, "_MEMORY_FILE", tmp_path / "none")
    monkeypatch.setattr(_workers, "_GROUPS", tmp_path / "none")
    assert free_memory() > 2**60

"""Tasks given to processes of this machine or to the workers of a Dask scheduler, each done once and kept.

What a task returned stands in `NNNN.json` of a folder once it is done, so nothing is done twice. A worker that dies
takes nothing with it: its task is given to another; only a death at the task itself is counted against it. A worker
whose scheduling process dies ends with it.
"""

import contextlib
import importlib
import json
import multiprocessing
import os
import threading
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from simengine.extras import extra

ATTEMPTS = 5  # of a task whose worker dies at it
UNBORN = 20  # workers in a row that die at their start
PATIENCE = 10  # for a scheduler to answer [s]
_alone = threading.Lock()  # a task prints and reads as if its process were its own
Task = tuple[Any, ...]  # module:function, then its arguments: what pickles and is no code


def shared(tasks: Mapping[int, Task], folder: Path, *, workers: int, cluster: str = "") -> tuple[int, int]:
    """Do the tasks whose results are not there yet: how many that were, and how many were given again.

    Args:
        tasks: By number.
        folder: Of the results.
        workers: Processes.
        cluster: Address of a Dask scheduler, as tcp://host:8786, whose workers take the place of processes of our own.

    Raises:
        ValueError: No scheduler answers.
        RuntimeError: Worker after worker dies at its start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    left = {number: task for number, task in tasks.items() if not _done(folder, number).exists()}
    if cluster:
        return len(left), _work_on_cluster(left, folder, cluster)
    return len(left), _work(left, folder, min(workers, max(len(left), 1)))


def result_of(folder: Path, number: int) -> dict[str, Any]:
    """What a task returned; { error } of one that could not be done."""
    found: dict[str, Any] = json.loads(_done(folder, number).read_text(encoding="utf-8"))
    return found


def write(path: Path, data: Any) -> None:
    """A file of JSON that is there as a whole or not at all."""
    fresh = path.with_suffix(".part")
    fresh.write_text(json.dumps(data), encoding="utf-8")
    fresh.replace(path)


def _done(folder: Path, number: int) -> Path:
    return folder / f"{number:04d}.json"


def _called(task: Task) -> Any:
    """What the function of a task returns."""
    module, _, function = task[0].partition(":")
    return getattr(importlib.import_module(module), function)(*task[1:])


class Ledger:
    """Which task comes next, and how often each has lost the worker that was doing it.

    Args:
        tasks: Their numbers, in order.

    Attributes:
        waiting: Numbers of tasks that nobody does, the next one first.
        retried: How often a task was put back.
    """

    def __init__(self, tasks: Iterable[int]) -> None:
        self.waiting = deque(tasks)
        self.retried: int = 0
        self._deaths = Counter[int]()
        self._unborn = 0

    def take(self) -> int | None:
        """For a worker that is ready: a task, if one waits."""
        self._unborn = 0
        return self.waiting.popleft() if self.waiting else None

    def lost(self, number: int | None) -> bool:
        """A worker died at its task, or at its start (None), which is no task's fault; whether the task is given up.

        A task that lost its worker goes behind the others: whatever it was, they are done first.

        Raises:
            RuntimeError: Worker after worker dies at its start.
        """
        if number is None:
            self._unborn += 1
            if self._unborn == UNBORN:
                raise RuntimeError(
                    f"workers: {UNBORN} in a row died before they were ready; what is done is kept. "
                    "Is there memory for them? Fewer --workers need less; the same command goes on"
                )
            return False
        self._deaths[number] += 1
        if self._deaths[number] == ATTEMPTS:
            return True
        self.waiting.append(number)
        self.retried += 1
        return False


def _work(tasks: Mapping[int, Task], out: Path, workers: int) -> int:
    """Give tasks to workers until all are done; how many were given again."""
    context = multiprocessing.get_context("spawn")
    ledger = Ledger(tasks)
    alive: dict[Connection, tuple[Any, int | None]] = {}  # its process, and its task; None while it starts

    def running(state: bool) -> int:
        return sum((number is not None) == state for _, number in alive.values())

    try:
        while ledger.waiting or running(True):
            while len(alive) < workers and running(False) < len(ledger.waiting):
                ours, theirs = context.Pipe()
                needed = tasks[ledger.waiting[0]][0].partition(":")[0]
                process = context.Process(target=_worker, args=(theirs, needed), daemon=True)
                process.start()
                theirs.close()
                alive[ours] = (process, None)
            for ready in wait(list(alive)):
                pipe = ready
                assert isinstance(pipe, Connection)
                process, number = alive.pop(pipe)
                try:
                    result = pipe.recv()
                except (EOFError, OSError):
                    process.join()
                    pipe.close()
                    if ledger.lost(number) and number is not None:
                        write(_done(out, number), {"error": f"its worker died {ATTEMPTS} times"})
                    continue
                if number is not None:
                    write(_done(out, number), result)
                following = ledger.take()
                if following is None:
                    pipe.close()
                    process.join()
                    continue
                alive[pipe] = (process, following)
                with contextlib.suppress(OSError):  # it has just died: told by the end of its pipe
                    pipe.send(tasks[following])
    finally:
        for process, _ in alive.values():
            process.terminate()
    return ledger.retried


def _worker(pipe: Connection, needed: str) -> None:
    """Say that it is ready, with the module that is needed, and do what comes until the pipe is closed."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    importlib.import_module(needed)
    pipe.send(None)
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        pipe.send(_called(task))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work_on_cluster(tasks: Mapping[int, Task], out: Path, address: str) -> int:
    """As `_work`, on the workers of a Dask scheduler; how many tasks were given again after it had given them up."""
    distributed = extra("distributed", of="cluster", what=f"--cluster {address}")
    try:
        client = distributed.Client(address, timeout=PATIENCE)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"--cluster {address}: no Dask scheduler answers there; start one with `dask scheduler`"
        ) from error
    attempts = dict.fromkeys(tasks, 0)
    numbers: dict[str, int] = {}

    def give(number: int) -> Any:
        attempts[number] += 1
        future = client.submit(_called_alone, tasks[number], pure=False)
        numbers[future.key] = number
        return future

    with client:
        done = distributed.as_completed([give(number) for number in tasks])
        for future in done:
            number = numbers[future.key]
            failure = future.exception() if future.status != "finished" else None
            if isinstance(failure, distributed.KilledWorker) and attempts[number] < ATTEMPTS:
                done.add(give(number))
                continue
            write(_done(out, number), future.result() if failure is None else {"error": str(failure)})
    return sum(attempts.values()) - len(attempts)


def _called_alone(task: Task) -> Any:
    with _alone:
        return _called(task)

"""Serial, worker processes, any executor: equal numbers, no hang, no process left over."""

import dataclasses
import logging
import os
import pickle
import signal
import struct
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from tests import level2
from tso_level3.config.settings import Settings
from tso_level3.datatypes import Box, Times
from tso_level3.readers.errors import quiet
from tso_level3.readers.open import open_exposure
from tso_level3.run.batches import batches_of
from tso_level3.run.executors import mapped, worker_pool
from tso_level3.run.measure import run
from tso_level3.utils.threads import one_thread

ROOT = Path(__file__).resolve().parents[2]
#: Small chunks make several batches of a short exposure.
SETTINGS = Settings(radii=(3.0, 5.0, 8.0), radius_inner=14.0, radius_outer=24.0, chunk=8)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    changes = {"n_int": 200, "cosmic_rays": 0.5, "bad_random": 3e-4, "bad_fixed": 1e-3}
    return level2.write(tmp_path_factory.mktemp("level2"), **changes).segments[0]


@pytest.fixture(scope="module")
def exposure(path):
    return open_exposure(path, SETTINGS)


@pytest.fixture(scope="module")
def serial(exposure):
    return run(exposure, SETTINGS)


@pytest.fixture(scope="module")
def workers():
    """Two processes for all tests of this file: a start costs more than a test."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        yield executor


def assert_same(found, expected):
    for name, column in expected.light_curve.items():
        if np.asarray(column).dtype.kind in "fiu":
            np.testing.assert_allclose(
                found.light_curve[name], column, rtol=1e-12, atol=1e-14, err_msg=name
            )


# The same numbers


def test_processes_give_the_numbers_of_one(exposure, serial):
    assert_same(run(exposure, SETTINGS.replace(n_workers=2)), serial)


def test_numbers_do_not_depend_on_the_chunk(exposure, serial):
    """A matrix product rounds with its shape: 1e-12 of a position, or of the flux."""
    found = run(exposure, SETTINGS.replace(chunk=37))
    for name in ("psf_x", "gauss_x", "cc_x", "aperture_flux", "background", "gauss_sigma_x"):
        np.testing.assert_allclose(
            found.light_curve[name], serial.light_curve[name], rtol=1e-11, err_msg=name
        )


def test_threads_give_the_numbers_of_one(exposure, serial):
    with ThreadPoolExecutor(4) as executor:
        assert_same(run(exposure, SETTINGS, executor=executor), serial)


def test_moving_apertures_in_threads(exposure):
    settings = SETTINGS.replace(moving_centroid=True)
    with ThreadPoolExecutor(4) as executor:
        assert_same(run(exposure, settings, executor=executor), run(exposure, settings))


def test_a_pool_handed_in_gives_the_numbers_of_one(exposure, serial, workers):
    assert_same(run(exposure, SETTINGS, executor=workers), serial)


def test_arrays_travel_to_processes(exposure, workers):
    pixels = exposure.segments[0].source.load(0, 200, Box(0, 0, 64, 64))
    given = {
        "errors": pixels.errors.copy(),
        "mask": (pixels.dq & 1) != 0,
    }
    cube = open_exposure(pixels.values.copy(), SETTINGS.replace(unit="MJy/sr"), **given)
    assert_same(run(cube, SETTINGS, executor=workers), run(cube, SETTINGS))


def test_single_frames_travel_to_processes(exposure, workers):
    pixels = exposure.segments[0].source.load(0, 80, Box(0, 0, 64, 64))
    frames = open_exposure([frame.copy() for frame in pixels.values], SETTINGS)
    assert_same(run(frames, SETTINGS, executor=workers), run(frames, SETTINGS))


@pytest.mark.parametrize("processes", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_dask_gives_the_numbers_of_one(exposure, serial, processes):
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.Client(processes=processes, **options) as client:
        assert_same(run(exposure, SETTINGS, executor=client.get_executor()), serial)


# What travels


class Recorder(Executor):
    """Runs at once what a process would unpickle, and keeps the sizes."""

    def __init__(self):
        self.batches, self.tasks, self.unpickled = [], [], []

    def submit(self, function, item):
        task, batch = pickle.dumps(function), pickle.dumps(item)
        self.tasks.append(len(task))
        self.batches.append(len(batch))
        self.unpickled.append(pickle.loads(task))
        future = Future()
        future.set_result(self.unpickled[-1](pickle.loads(batch)))
        return future


def test_the_plan_travels_once_a_batch(exposure, serial):
    recorder = Recorder()
    assert_same(run(exposure, SETTINGS, executor=recorder), serial)
    n_chunks = -(-exposure.n_int // SETTINGS.chunk)
    assert 1 < len(recorder.batches) <= n_chunks
    assert max(recorder.batches) < 5000  # a path and its offsets
    assert min(recorder.tasks) > 10 * max(recorder.batches)  # the plan goes with the function


def test_a_process_unpickles_the_plan_once(exposure):
    first, second = Recorder(), Recorder()
    run(exposure, SETTINGS, executor=first)
    run(exposure, SETTINGS, executor=second)
    made = first.unpickled
    assert len(made) > 2 and all(item is made[0] for item in made)
    assert second.unpickled[0] is not made[0]


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("lengths", [(200,), (3, 90, 1, 61)])
def test_batches_cover_all_frames_and_end_small(workers, lengths):
    rng = np.random.default_rng(2)
    cubes = [rng.normal(size=(n, 12, 12)).astype(np.float32) for n in lengths]
    exposure = open_exposure(cubes[0], SETTINGS)
    segments = [open_exposure(cube, SETTINGS).segments[0] for cube in cubes]
    n = sum(lengths)
    numbers = {"integration": np.arange(1, n + 1), "segment": np.ones(n, int)}
    times = Times(np.arange(n) / 1e3, np.full(n, np.nan), "given", np.zeros(n, np.uint32))
    exposure = dataclasses.replace(exposure, segments=tuple(segments), times=times, **numbers)
    batches = batches_of(exposure, 4, workers)
    rows = np.concatenate([np.arange(b.stop - b.start) + b.first for b in batches])
    assert rows.tolist() == list(range(sum(lengths)))
    frames = [b.segment.source.values[b.start : b.stop] for b in batches]
    np.testing.assert_array_equal(np.concatenate(frames), np.concatenate(cubes))
    sizes = [b.stop - b.start for b in batches]
    assert max(sizes) <= 64
    if workers > 1:
        assert sizes[-1] <= 4 and sizes[0] <= -(-sum(lengths) // workers)


def test_a_batch_of_an_array_holds_its_own_frames(exposure):
    cube = np.random.default_rng(1).normal(size=(200, 20, 20)).astype(np.float32)
    batches = batches_of(open_exposure(cube, SETTINGS), 8, 2)
    sizes = [len(pickle.dumps(batch)) for batch in batches]
    assert len(batches) > 4
    assert sum(sizes) < 1.3 * cube.nbytes + 5000 * len(batches)
    assert all(np.shares_memory(batch.segment.source.values, cube) for batch in batches)


# Order and failure


def _late(number):
    time.sleep(0.02 * (number % 3 == 0))
    return number


def test_each_result_comes_once_with_its_place():
    with ThreadPoolExecutor(4) as executor:
        assert sorted(mapped(executor, _late, list(range(20)))) == list(zip(range(20), range(20)))


def test_an_error_ends_what_has_not_begun():
    begun = []

    def work(number):
        begun.append(number)
        time.sleep(0.01)
        if number == 1:
            raise ValueError("radii: too many")
        return number

    with ThreadPoolExecutor(1) as executor:
        with pytest.raises(ValueError, match="radii: too many"):
            list(mapped(executor, work, list(range(100))))
    assert len(begun) < 10


#: True in a worker process.
IN_WORKER = f"__import__('os').getpid() != {os.getpid()}"


def test_this_process_works_beside_the_others():
    code = [f"(__import__('time').sleep(0.05), {k}, {IN_WORKER})[1:]" for k in range(60)]
    with worker_pool(2) as workers:
        found = dict(mapped(workers, eval, code))
    assert [found[k][0] for k in range(60)] == list(range(60))
    assert {where for _, where in found.values()} == {True, False}


def test_nobody_waits_for_processes_that_start_late():
    began = time.monotonic()
    with worker_pool(2) as workers:
        workers.submit(time.sleep, 30)
        assert dict(mapped(workers, eval, ["1", "2", "3"])) == {0: 1, 1: 2, 2: 3}
    assert time.monotonic() - began < 10


def test_an_error_in_a_process_is_the_error_itself():
    code = f"(__import__('time').sleep(0.05), 1 // (1 - ({IN_WORKER})))"
    with pytest.raises(ZeroDivisionError):
        with worker_pool(2) as workers:
            list(mapped(workers, eval, [code] * 60))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_worker_that_dies_is_one_clear_error(number):
    kill = f"__import__('os').kill(__import__('os').getpid(), {int(number)})"
    code = f"(__import__('time').sleep(0.05), ({IN_WORKER}) and {kill})"
    began = time.monotonic()
    with pytest.raises(RuntimeError, match="n_workers: a worker process died after .* of 90 batch"):
        with worker_pool(2) as workers:
            list(mapped(workers, eval, [code] * 90))
    assert time.monotonic() - began < 20


def test_a_worker_of_the_users_pool_that_dies():
    code = f"(__import__('time').sleep(0.01), ({IN_WORKER}) and __import__('os')._exit(3))"
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        with pytest.raises(RuntimeError, match="^executor: a worker process died after 0 of 3 bat"):
            list(mapped(executor, eval, [code] * 3))


def test_the_next_run_has_the_workers_of_the_last_unless_one_has_died():
    with worker_pool(2) as first:
        number = first.submit(os.getpid).result()
    with worker_pool(2) as second:
        assert second.submit(os.getpid).result() == number
    os.kill(number, signal.SIGKILL)
    time.sleep(1.0)
    with worker_pool(2) as third:
        assert third.submit(os.getpid).result() != number
    with worker_pool(3) as fourth:
        assert fourth is not third and fourth.submit(os.getpid).result() != number


def test_one_worker_is_no_process():
    with worker_pool(1) as workers:
        assert workers is None


# Where processes cannot start


def _one_of_two(path):
    """Run in a process of its own; returns the light curve and the log."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logging.getLogger("tso_level3").addHandler(handler)
    settings = SETTINGS.replace(n_workers=2)
    return run(open_exposure(path, settings), settings).light_curve["psf_x"], lines


def test_a_daemonic_process_measures_alone(path, serial):
    """Used to be an AssertionError, in workers of multiprocessing.Pool and of dask."""
    with get_context("spawn").Pool(1) as pool:
        x, lines = pool.apply(_one_of_two, (path,))
    np.testing.assert_allclose(x, serial.light_curve["psf_x"], rtol=1e-12)
    assert any("n_workers=2 is not used" in line and "daemonic" in line for line in lines)


def test_a_worker_of_another_pool_has_workers(path, workers, serial):
    x, lines = workers.submit(_one_of_two, path).result()
    np.testing.assert_allclose(x, serial.light_curve["psf_x"], rtol=1e-12)
    assert not any("not used" in line for line in lines)


def test_no_process_can_be_started(monkeypatch, exposure, serial, caplog):
    def refuse(*args, **kwargs):
        raise OSError(38, "Function not implemented")  # as where there is no /dev/shm

    monkeypatch.setattr("loky.backend.context.LokyContext.Lock", refuse)
    assert_same(run(exposure, SETTINGS.replace(n_workers=2)), serial)
    assert "n_workers=2 is not used" in caplog.text and "not implemented" in caplog.text


# Threads of linear algebra


def test_a_worker_has_one_thread_and_the_parent_its_environment():
    before = dict(os.environ)
    code = "sum(each['num_threads'] for each in __import__('threadpoolctl').threadpool_info())"
    with worker_pool(2, modules=("scipy.linalg",)) as workers:
        assert dict(os.environ) == before
        found = workers.submit(eval, code).result()
        libraries = workers.submit(eval, code.replace("each['num_threads']", "1"))
        assert found == libraries.result() > 0


def test_a_thread_does_not_lift_the_limit_of_another():
    # used to: of two threads the one that came second kept the first one's limit for good
    control = pytest.importorskip("threadpoolctl")

    def counts():
        return {library["num_threads"] for library in control.threadpool_info()}

    def inside():
        with one_thread():
            return counts()

    if not counts():
        pytest.skip("no library of linear algebra that can be told")
    with control.threadpool_limits(limits=2), ThreadPoolExecutor(4) as executor:
        with one_thread():
            assert [executor.submit(inside).result() for _ in range(8)] == [{1}] * 8
            assert counts() == {1}
        assert counts() == {2}


def test_a_thread_that_ends_first_does_not_lift_the_limit_of_another():
    """Used to: the first one set and lifted it, whoever was still inside."""
    control = pytest.importorskip("threadpoolctl")
    first, second = one_thread(), one_thread()
    with control.threadpool_limits(limits=2):
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert {library["num_threads"] for library in control.threadpool_info()} == {1}
        second.__exit__(None, None, None)
        assert {library["num_threads"] for library in control.threadpool_info()} == {2}


def test_threads_leave_the_filters_of_warnings_as_they_were():
    """Used to: the thread that ended last restored what the other one had set."""
    before = warnings.filters[:], warnings.showwarning
    inside, first_is_in = [], threading.Event()

    def work(wait):
        with quiet():
            first_is_in.set()
            inside.append(len(warnings.filters))
            time.sleep(wait)

    first = threading.Thread(target=work, args=(0.2,))
    second = threading.Thread(target=work, args=(0.4,))
    first.start()
    assert first_is_in.wait(10)
    second.start()
    first.join()
    second.join()
    assert len(inside) == 2
    assert (warnings.filters, warnings.showwarning) == before


# Scripts that are killed, or have no guard


def _script(folder, text):
    script = folder / "script.py"
    script.write_text(textwrap.dedent(text))
    return script


def _environment():
    return {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}


_NO_GUARD = """
import sys
import jwst.stpipe
from tso_level3.run import executors
from tso_level3.readers.open import open_exposure
from tso_level3.run.measure import run
from tso_level3.config.settings import Settings

print("begun", flush=True)
settings = Settings(radii=(3.0,), radius_inner=14.0, radius_outer=24.0, chunk=8)
exposure = open_exposure({path!r}, settings)

class Own:
    # a source of the user's, which the workers cannot import
    def __init__(self, source):
        self.source = source
    def load(self, start, stop, box, *, variances=False):
        return self.source.load(start, stop, box, variances=variances)

import dataclasses
segments = tuple(dataclasses.replace(s, source=Own(s.source)) for s in exposure.segments)
exposure = dataclasses.replace(exposure, segments=segments)
with executors.worker_pool(3) as workers:
    workers.submit(print).result()
    result = run(exposure, settings, executor=workers)
    code = "(sorted(__import__('sys').modules), __import__('time').sleep(0.2))[0]"
    for _ in range(2):
        modules = workers.submit(eval, code).result()
        assert "tso_level3.core.measure" in modules, "not a worker that measured"
        print([name for name in ("jwst", "stpipe", "stdatamodels", "pandas",
                                 "matplotlib", "asdf") if name in modules])
print(len(result.light_curve["time"]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["file", "stdin", "exec"])
def test_a_script_without_a_guard_and_workers_without_jwst(path, tmp_path, how):
    """Workers do not run the script again, and import only what measuring needs."""
    code = _NO_GUARD.format(path=str(path))
    command = {
        "file": [_script(tmp_path, code)],
        "stdin": ["-"],
        # as a notebook does
        "exec": ["-c", f"exec(compile({code!r}, '<cell 1>', 'exec'), globals())"],
    }[how]
    done = subprocess.run(
        [sys.executable, *command],
        input=code if how == "stdin" else None,
        capture_output=True,
        text=True,
        env=_environment(),
        timeout=120,
    )
    assert done.stdout.split() == ["begun", "[]", "[]", "200"], done.stderr
    assert done.stderr == ""


_FORKED = """
import os, sys, warnings
from tso_level3.readers.open import open_exposure
from tso_level3.run.measure import run
from tso_level3.config.settings import Settings
settings = Settings(radii=(3.0,), radius_inner=14.0, radius_outer=24.0, chunk=8, n_workers=2)
exposure = open_exposure({path!r}, settings)
run(exposure, settings)
warnings.simplefilter("ignore")
child = os.fork()
print(len(run(exposure, settings).light_curve["time"]), flush=True)
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_after_a_fork(path, tmp_path):
    done = subprocess.run(
        [sys.executable, _script(tmp_path, _FORKED.format(path=str(path)))],
        capture_output=True,
        text=True,
        env=_environment(),
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["200", "200"]


_SLOW = """
import sys, time
from tso_level3.datatypes import Pixels

class Slow:
    def __init__(self, source):
        self.source = source
    def load(self, start, stop, box, *, variances=False):
        if not variances:
            time.sleep(0.3)
        return self.source.load(start, stop, box, variances=variances)
"""

_INTERRUPTED = """
import dataclasses, logging, sys
sys.path.insert(0, {folder!r})
from slow import Slow
from tso_level3.product import model as product
from tso_level3.readers.open import open_exposure
from tso_level3.run.measure import run
from tso_level3.config.settings import Settings

class Bar:
    def update(self, n): print("measured", flush=True)
    def close(self): pass

settings = Settings(radii=(3.0,), radius_inner=14.0, radius_outer=24.0, chunk=4, n_workers=2)
exposure = open_exposure({path!r}, settings)
segments = tuple(dataclasses.replace(s, source=Slow(s.source)) for s in exposure.segments)
exposure = dataclasses.replace(exposure, segments=segments)
bar = lambda title, n: Bar() if title == "measuring" else None
result = run(exposure, settings, progress=bar)
product.build(result).save({out!r})
"""


def _session(number):
    """Processes of a session that are not yet dead."""
    out = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == number and fields[0] != "Z":
            out.append(int(folder.name))
    return out


def _is_worker(number):
    return b"popen_loky" in Path(f"/proc/{number}/cmdline").read_bytes()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to see processes")
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Ctrl-C", "parent killed", "worker killed"])
def test_a_run_that_is_ended_leaves_nothing_behind(path, tmp_path, kind):
    """No process and no half product; Ctrl-C goes to all processes of the terminal."""
    (tmp_path / "slow.py").write_text(_SLOW)
    folder, out = tmp_path / "out", tmp_path / "out" / "x_phot.asdf"
    folder.mkdir()
    text = _INTERRUPTED.format(folder=str(tmp_path), path=str(path), out=str(out))
    with subprocess.Popen(
        [sys.executable, _script(tmp_path, text)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=_environment(),
        start_new_session=True,
    ) as process:
        assert process.stdout.readline() == "measured\n"
        assert len(_session(process.pid)) >= 3  # this one, loky's tracker, a worker
        began = time.monotonic()
        if kind == "Ctrl-C":
            os.killpg(process.pid, signal.SIGINT)
        elif kind == "parent killed":
            os.kill(process.pid, signal.SIGKILL)
        else:
            (worker,) = filter(_is_worker, _session(process.pid))
            os.kill(worker, signal.SIGKILL)
        process.wait(timeout=15)
        while _session(process.pid) and time.monotonic() - began < 15:
            time.sleep(0.05)
        took = time.monotonic() - began
        left = _session(process.pid)
        for one in left:
            os.kill(one, signal.SIGKILL)
        problem = process.stderr.read()
    assert not left
    assert took < 5  # a second or two on a machine that does nothing else
    assert process.returncode != 0
    assert list(folder.iterdir()) == []
    last = problem.rstrip().split("\n")[-1]
    if kind == "Ctrl-C":
        assert last == "KeyboardInterrupt" and problem.count("Traceback") == 1, problem
    elif kind == "worker killed":
        assert last.startswith("RuntimeError: n_workers: a worker process died after")


# Progress


@pytest.mark.skipif(os.name != "posix", reason="needs pseudo-terminals")
@pytest.mark.parametrize("columns", [0, 100])
def test_a_bar_on_a_terminal_whatever_size_it_says(columns):
    """Used to be blank where a terminal says that it has no columns, as those of containers do."""
    code = "from tso_level3.utils.progress import progress as p; "
    code += "b = p('sums', 4); b.update(4); b.close()"
    master, slave = os.openpty()
    if columns:
        fcntl = pytest.importorskip("fcntl")
        size = struct.pack("HHHH", 24, columns, 0, 0)
        fcntl.ioctl(slave, pytest.importorskip("termios").TIOCSWINSZ, size)
    subprocess.run([sys.executable, "-c", code], stderr=slave, check=True, env=_environment())
    os.close(slave)
    shown = os.read(master, 65536).decode()
    os.close(master)
    assert "sums" in shown and "100%" in shown and "4/4" in shown and "left" in shown

"""Workers as forked processes, for the tests that kill, stop and race them.

The parent has imported everything once and opens no database, so that a child is at work within
milliseconds and no connection crosses a fork.
"""

import contextlib
import os
import signal
import sys
import time
import traceback
import warnings

import optuna
import sqlalchemy
from toy_study import listing

from defectops.experiments.studies import close_study, join_study, open_study, work

# Optuna loads much when it first opens a database. Children that are to be killed soon inherit it
# from this one, which is in memory and closed.
optuna.logging.set_verbosity(optuna.logging.WARNING)
warm = optuna.storages.RDBStorage("sqlite:///:memory:")
optuna.create_study(storage=warm).get_trials()
warm.remove_session()
warm.engine.dispose()


class Child:
    """A forked process that runs a function; if that raises, the traceback is in a file."""

    def __init__(self, act, log):
        self.log = log
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # fork beside another test's thread
            self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
                signal.signal(signal.SIGINT, signal.default_int_handler)
                act()
                code = 0
            except KeyboardInterrupt:
                code = 130
            except SystemExit as error:
                code = error.code
            except BaseException:
                log.write_text(traceback.format_exc())
            finally:
                os._exit(code)

    def kill(self, number=signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self):
        """Return the exit code, negative for a signal."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def ended(self):
        """Return the exit code, None while it runs."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if pid else None

    def succeed(self):
        code = self.wait()
        assert code == 0, self.log.read_text() if self.log.exists() else f"exit {code}"


def worker(root, url, plan, evaluate, listener=None, **kwargs):
    """Return what a child does: open the study, work, close."""

    def act():
        study = open_study(root, url, plan.defect, plan)
        work(study, evaluate, listener, **{"beat_s": 1.0, **kwargs})
        close_study(study)

    return act


def run_to_the_end(root, url, plan, evaluate, tmp_path, **kwargs):
    """Carry a study out without an interruption, in a child, and return its listing."""
    Child(worker(root, url, plan, evaluate, **kwargs), tmp_path / "log").succeed()
    return read(root, url, plan)


def read(root, url, plan):
    study = join_study(root, url, plan.defect)
    try:
        return listing(study)
    finally:
        close_study(study)


@contextlib.contextmanager
def gate():
    """Yield (wait, open): children that wait go on together once it is opened."""
    here, there = os.pipe()

    def wait():
        os.close(there)
        os.read(here, 1)

    try:
        yield wait, lambda: os.close(there)
    finally:
        os.close(here)


def tell_commits(pipe):
    """Write a byte into a pipe before each commit of this process."""
    sqlalchemy.event.listen(sqlalchemy.Engine, "commit", lambda _: os.write(pipe, b"."))


def die_at(number):
    """End this process as SIGKILL would, right before its commit or change of a folder `number`."""
    left = [number]

    def count(*_):
        left[0] -= 1
        if left[0] == 0:
            os._exit(137)

    sqlalchemy.event.listen(sqlalchemy.Engine, "commit", count)

    def counted(act):
        def act_(*args, **kwargs):
            count()
            return act(*args, **kwargs)

        return act_

    for name in ("rename", "replace", "mkdir", "rmdir", "unlink"):
        setattr(os, name, counted(getattr(os, name)))


def until(condition, seconds=30.0):
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)

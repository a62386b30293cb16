"""Processes for learners' code: sealed off by bubblewrap, loaded once, one fork a submission.

What a submission can see: the Python installation, this package without its references and without the grader, and
empty folders of its own. No network, no home folder, no gradebook, no other submission.
"""

import math
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import lessons_src
from lessons_src.exercises import wire
from lessons_src.exercises.tasks import NoAnswer
from lessons_src.grading import worker

PACKAGE = Path(lessons_src.__file__).parent
VISIBLE = ("*.py", "assets", "show", "lessons/*.py", "lessons/*/[!e]*", "lessons/*/explorer.py")  # no exercises.py
VISIBLE += ("exercises/__init__.py", "exercises/tasks.py", "exercises/wire.py", "grading/worker.py")
MEMORY = 4 << 30  # bytes, of all processes of a submission together
GRACE = 3.0  # seconds for an answer to "time is up"


class NotConfined(RuntimeError):
    """Learners' code cannot be run safely here; the message says why, and what to do."""


class Died(Exception):
    """The process of a submission is gone, or was ended; the message says why."""


class Sandbox:
    """Where submissions run. `open` gives each a process of its own; several may be open at once.

    modules are imported beforehand, so that no submission waits for them. confined=False runs everything with the
    grader's own rights: for trusted code only. Raises NotConfined if bubblewrap is missing or cannot work.
    """

    def __init__(self, modules: Iterable[str] = (), confined: bool = True) -> None:
        self.modules, self.confined = sorted(modules), confined
        self._lock, self._process, self._control = threading.Lock(), None, None
        self._start()

    def close(self) -> None:
        """End everything that runs in here."""
        with suppress(OSError):
            self._control.close()
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    @contextmanager
    def open(self) -> Iterator["Kernel"]:
        """Fork a process; when the block ends it is killed, with everything it started. Raises NotConfined."""
        channel, theirs = socket.socketpair()
        lifeline, end = socket.socketpair()
        with channel, theirs, lifeline:
            channel.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            with end, self._lock:
                if self._process.poll() is not None:
                    self._start()
                socket.send_fds(self._control, [b"+"], [theirs.fileno(), end.fileno()])
            theirs.close()
            try:
                _, credentials, *_ = channel.recvmsg(0, socket.CMSG_SPACE(12), socket.MSG_PEEK)
                worker.receive(channel, 120)
            except (OSError, EOFError, ValueError) as error:
                raise NotConfined("no sealed process could be started: are user namespaces off?") from error
            channel.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 0)
            yield Kernel(channel, lifeline, pid=struct.unpack("=3i", credentials[0][2])[0])

    def _start(self) -> None:
        self._control, theirs = socket.socketpair()
        command = [sys.executable, "-I", "-X", "utf8", "-c", _BOOT, str(theirs.fileno())]
        command += ["confined" if self.confined else "unconfined", *self.modules]
        if self.confined:
            command = [*_bubblewrap(), "--", *command]
        with theirs:
            pipes = {"stdin": subprocess.DEVNULL, "stderr": subprocess.PIPE, "pass_fds": [theirs.fileno()]}
            self._process = subprocess.Popen(command, env=_environment(), **pipes)
        self._control.settimeout(120)
        if self._control.recv(1) != b"+":
            reason = self._process.stderr.read().decode(errors="replace").strip().splitlines()
            raise NotConfined(f"the sandbox did not start: {reason[-1] if reason else 'no reason was given'}")
        self._process.stderr.close()


class Kernel:
    """A process that belongs to one submission. Nothing it says is believed; it can only fail to answer.

    It has `seconds` of processor time for a request, or twice as many of the clock, and no more than `left` of these.
    """

    def __init__(self, channel: socket.socket, lifeline: socket.socket, pid: int) -> None:
        self._channel, self._lifeline, self._too_much = channel, lifeline, False
        threading.Thread(target=self._watch, args=(pid,), daemon=True).start()

    def run(self, source: str, seconds: float, left: float = math.inf) -> dict[str, Any]:
        """Run a cell and return "text", "images" (base64 of PNG) and "error", unchecked. Raises Died."""
        return self._exchange({"run": source}, seconds, left)

    def call(self, name: str, arguments: tuple, seconds: float, left: float = math.inf) -> Any:
        """Call a function that the notebook defined and return its answer. Raises NoAnswer or Died."""
        encoded = [wire.encode(argument) for argument in arguments]
        reply = self._exchange({"call": name, "arguments": encoded}, seconds, left)
        if "answer" not in reply:
            raise NoAnswer(str(reply.get("none"))[:500])
        try:
            return wire.decode(reply["answer"], plain=True)
        except ValueError as error:
            raise NoAnswer(f"What it returned cannot be read: {error}") from None

    def _exchange(self, request: dict[str, Any], seconds: float, left: float) -> dict[str, Any]:
        seconds = max(round(min(seconds, left), 1), 0.1)  # which learners read
        clock = min(2 * seconds, max(left, 0.1))
        try:
            self._channel.settimeout(clock + GRACE)
            worker.send(self._channel, request | {"seconds": seconds, "clock": clock})
            reply = worker.receive(self._channel, clock + GRACE)
        except TimeoutError:
            reason = f"It took longer than {seconds:g} seconds and could not be interrupted."
        except (OSError, EOFError):
            reason = "It used too much memory." if self._too_much else "Its process ended, by itself or at a limit."
        except ValueError as error:
            reason = f"It sent {error}."
        else:
            if isinstance(reply, dict):
                return reply
            reason = "It sent something that is no reply."
        self._lifeline.close()
        raise Died(reason)

    def _watch(self, pid: int) -> None:
        """End the submission when its processes together hold more than MEMORY."""
        while (held := sum(_held(p) for p in _family(pid))) and held <= MEMORY:
            time.sleep(0.2)
        if held:
            self._too_much = True
            self._lifeline.close()


def _family(pid: int) -> Iterator[int]:
    """A process and all that descend from it."""
    yield pid
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as file:
                for child in file.read().split():
                    yield from _family(int(child))


def _held(pid: int) -> int:
    """Bytes of memory that a process alone accounts for."""
    with suppress(OSError), open(f"/proc/{pid}/status") as file:
        return sum(int(line.split()[1]) << 10 for line in file if line.startswith(("RssAnon:", "RssShmem:")))
    return 0


_BOOT = "import sys; sys.path.insert(0, '/course'); from lessons_src.grading import worker; worker.main(sys.argv[1:])"


def _environment() -> dict[str, str]:
    settings = {"HOME": worker.HOME, "PATH": f"{sys.prefix}/bin:/usr/bin", "LANG": "C.UTF-8"}
    settings |= {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
    return settings | {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "MPLCONFIGDIR": "/tmp/matplotlib"}


def _bubblewrap() -> list[str]:
    """The command in front of the worker's own: what it may see, all of it read-only."""
    program = shutil.which("bwrap")
    if program is None:
        raise NotConfined("bubblewrap is not installed: install it (apt install bubblewrap), or insist on --unconfined")
    command = [program, "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    command += ["--new-session", "--hostname", "grader", "--cap-drop", "ALL"]
    if os.getuid() == 0:  # the worker becomes nobody
        command += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        command += ["--unshare-user", "--uid", "1000", "--gid", "1000"]
    command += ["--symlink", "usr/bin", "/bin", "--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64"]
    command += ["--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--tmpfs", "/tmp"]
    command += ["--dir", worker.HOME, "--dir", "/etc"]
    base = Path(os.path.realpath(sys.executable)).parents[1]
    installed = dict.fromkeys(str(folder) for folder in ("/usr", base, sys.base_prefix, sys.prefix))
    shown = {folder: folder for folder in installed}
    for pattern in VISIBLE:
        shown |= {f"/course/lessons_src/{path.relative_to(PACKAGE)}": str(path) for path in PACKAGE.glob(pattern)}
    for parent in dict.fromkeys(str(Path(target).parent) for target in shown):
        command += ["--dir", parent]  # which nobody may enter, were it made on the way to a file
    for target, path in shown.items():
        command += ["--ro-bind", path, target]
    for path in ("/etc/ld.so.cache", "/etc/localtime", "/etc/fonts"):
        command += ["--ro-bind-try", path, path]
    for copy in {Path(entry, "lessons_src").resolve() for entry in sys.path}:
        if copy.is_dir() and any(copy.is_relative_to(folder) for folder in installed):
            command += ["--tmpfs", str(copy)]  # an installed copy: covered, or its references could be read
    return [*command, "--remount-ro", "/dev", "--remount-ro", "/"]

"""Processes for learners' code: sealed off by bubblewrap, loaded once, one fork a submission.

What a submission can see: the Python installation, this package without its references and without the grader, and
empty folders of its own. No network, no home folder, no gradebook, no other submission.
"""

import math
import os
import re
import select
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import lessons_src
from lessons_src.exercises import wire
from lessons_src.exercises.tasks import NoAnswer, one_line
from lessons_src.grading import worker

PACKAGE = Path(lessons_src.__file__).parent
VISIBLE = ("*.py", "assets", "show", "lessons/*.py", "lessons/*/*.py", "lessons/*/*.toml")  # no compiled files
VISIBLE += ("exercises/__init__.py", "exercises/tasks.py", "exercises/wire.py", "exercises/inputs.py")
VISIBLE += ("grading/worker.py",)
REFERENCES = "exercises.py"  # of a lesson
MEMORY = 4 << 30  # bytes, of all processes of a submission together
PAGE = 2 << 20  # bytes of the largest page that one fault brings
CGROUPS = Path("/sys/fs/cgroup")  # of version 2
HELD = ("RssAnon:", "RssShmem:", "VmSwap:", "Pss_Anon:", "Pss_Shmem:", "SwapPss:")  # the lines of /proc that count
GRACE = 3.0  # seconds for an answer to "time is up"


def visible(package: Path) -> list[Path]:
    """What a submission sees of the package: folders without references, and elsewhere single files."""
    return [path for pattern in VISIBLE for path in package.glob(pattern) if path.name != REFERENCES]


Helpers = Mapping[str, Callable[[Any], dict[str, Any]]]  # by name, from encoded arguments to a reply


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
        self._channel, self._lifeline, self._too_much, self._number = channel, lifeline, False, 0
        self._watcher = threading.Thread(target=self._watch, args=(pid, _control_group(pid)), daemon=True)
        self._watcher.start()

    def run(self, source: str, seconds: float, left: float = math.inf) -> dict[str, Any]:
        """Run a cell and return "text", "images" (base64 of PNG) and "error", unchecked. Raises Died."""
        return self._exchange({"run": source}, seconds, left, {})

    def call(
        self,
        name: str,
        arguments: tuple,
        seconds: float,
        left: float = math.inf,
        helpers: Helpers | None = None,
    ) -> Any:
        """Call a function that the notebook defined and return its answer. Raises NoAnswer or Died.

        What it calls by a name in `helpers` is answered by that, as `relay` does.
        """
        helpers, encoded = helpers or {}, [wire.encode(argument) for argument in arguments]
        reply = self._exchange({"call": name, "arguments": encoded, "helpers": [*helpers]}, seconds, left, helpers)
        if "answer" not in reply:
            raise NoAnswer(one_line(reply.get("none"), 500))
        try:
            return wire.decode(reply["answer"], plain=True)
        except ValueError as error:
            raise NoAnswer(f"What it returned cannot be read: {one_line(error)}") from None

    def relay(self, name: str, encoded: Any, seconds: float, left: float = math.inf) -> dict[str, Any]:
        """Call a function on what another process sent; return the reply, neither of them looked at. Raises Died."""
        return self._exchange({"call": name, "arguments": encoded, "helpers": []}, seconds, left, {})

    def _exchange(self, request: dict[str, Any], seconds: float, left: float, helpers: Helpers) -> dict[str, Any]:
        seconds = max(round(min(seconds, left), 1), 0.1)  # which learners read
        clock = min(2 * seconds, max(left, 0.1))
        try:
            self._channel.settimeout(clock + GRACE)
            self._number, end = self._number + 1, time.monotonic() + clock + GRACE
            worker.send(self._channel, request | {"number": self._number, "seconds": seconds, "clock": clock})
            reply = self._reply(end)
            while isinstance(asked := reply.get("ask"), str) and asked in helpers:
                worker.send(self._channel, helpers[asked](reply.get("arguments")))
                reply = self._reply(end)
        except TimeoutError:
            reason = f"It took longer than {seconds:g} seconds and could not be interrupted."
        except (OSError, EOFError):
            self._lifeline.close()
            self._watcher.join(GRACE)  # who knows why it ended
            reason = "It used too much memory." if self._too_much else "Its process ended, by itself or at a limit."
        except ValueError as error:
            reason = f"It sent {error}."
        else:
            return reply
        self._lifeline.close()
        raise Died(reason)

    def _reply(self, end: float) -> dict[str, Any]:
        """The next message. Raises what `worker.receive` does, ValueError also for a reply to no request or another."""
        if (left := end - time.monotonic()) <= 0:
            raise TimeoutError
        reply = worker.receive(self._channel, left)
        if not isinstance(reply, dict) or reply.get("number") != self._number:
            raise ValueError("something that is no reply")
        return reply

    def _watch(self, pid: int, group: Path | None) -> None:
        """End the submission when its processes together hold more than MEMORY, what their sockets may hold included.

        What is quick to read counts a shared page for every process, and so is never too little. Their true shares
        take milliseconds for each process: they are read only if that is too much, and then anew only after as many
        page faults as could have made up for the difference.
        """
        shared, known, buffer = 0, {}, _buffer()
        with suppress(ProcessLookupError):  # it may be gone already
            process = os.pidfd_open(pid)  # which tells of its end when the last of its threads has ended
            poll = select.poll()
            poll.register(process, select.POLLIN)
            while not poll.poll(200):
                family = list(_family(pid))
                left = MEMORY - buffer * len({socket for p in family for socket in _sockets(p)})
                if sum(_held(p, "status") for p in family) <= left:
                    continue
                faults = {p: _faults(p) for p in family}
                if shared + sum(max(0, n - known.get(p, 0)) for p, n in faults.items()) * PAGE > left:
                    shared, known = sum(_share(p) for p in family), faults
                if shared > left:
                    self._too_much = True
                    self._lifeline.close()
            os.close(process)
        if group:
            with suppress(OSError):
                if re.search(r"^oom_kill [1-9]", (group / "memory.events").read_text(), re.MULTILINE):
                    self._too_much = True
                group.rmdir()


def _family(pid: int) -> Iterator[int]:
    """A process and all that descend from it."""
    yield pid
    for thread in _listed(f"/proc/{pid}/task"):
        with suppress(OSError), open(f"/proc/{pid}/task/{thread}/children") as file:
            for child in file.read().split():
                yield from _family(int(child))


def _listed(folder: str) -> list[str]:
    with suppress(OSError):
        return os.listdir(folder)
    return []


def _held(pid: int, file: str) -> int:
    """Bytes of memory of a process that no file backs, from "status" (quick) or "smaps_rollup" (its share of them)."""
    for thread in _listed(
        f"/proc/{pid}/task"
    ):  # the first may have ended, and then knows nothing of the memory of the others
        with suppress(OSError), open(f"/proc/{pid}/task/{thread}/{file}") as lines:
            if sizes := [int(line.split()[1]) << 10 for line in lines if line.startswith(HELD)]:
                return sum(sizes)
    return 0


def _buffer() -> int:
    """Bytes that lie in a socket at most: twice a setting, which not every container shows, and starts at this."""
    with suppress(OSError):
        return 2 * int(Path("/proc/sys/net/core/wmem_max").read_text())
    return 2 * 212_992


def _sockets(pid: int) -> Iterator[str]:
    """The sockets that a process has open; what lies in them is the kernel's memory, and nobody's by its books."""
    for descriptor in _listed(f"/proc/{pid}/fd"):
        with suppress(OSError):
            if (target := os.readlink(f"/proc/{pid}/fd/{descriptor}")).startswith("socket:"):
                yield target


def _share(pid: int) -> int:
    """What a process holds, a page that n processes share as 1/n; all of it if the kernel does not say."""
    return _held(pid, "smaps_rollup") or _held(pid, "status")


def _faults(pid: int) -> int:
    """How often a process had to be given a page, or a copy of a shared one."""
    with suppress(OSError), open(f"/proc/{pid}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[7])
    return 0


def _control_group(pid: int) -> Path | None:
    """Put a process into a control group with a limit on memory, which the kernel keeps; None where none can be made.

    It stands beside the grader's own, or higher up, in what systemd leaves to an ordinary user. Root may write to all
    groups, and so cannot tell which are its own to change.
    """
    with suppress(OSError):
        if os.geteuid() == 0:
            return None
        own = re.search(r"^0::/(.*)$", Path("/proc/self/cgroup").read_text(), re.MULTILINE)
        folder = CGROUPS / own[1] if own else CGROUPS
        while "memory" not in (folder / "cgroup.subtree_control").read_text().split():
            folder = folder.parent
        group = folder / f"submission-{pid}"
        group.mkdir(exist_ok=True)
        try:
            with suppress(OSError):  # there is none where swap is not counted
                (group / "memory.swap.max").write_text("0")
            for name, value in {"memory.max": MEMORY, "memory.oom.group": 1, "cgroup.procs": pid}.items():
                (group / name).write_text(str(value))
            return group
        except OSError:
            group.rmdir()
    return None


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
    command += ["--dev-bind", "/dev/null", "/dev/zero"]  # mapping that one would be shared memory without a file
    command += ["--dir", worker.HOME, "--dir", "/etc"]
    base = Path(os.path.realpath(sys.executable)).parents[1]
    installed = dict.fromkeys(str(folder) for folder in ("/usr", base, sys.base_prefix, sys.prefix))
    shown = {folder: folder for folder in installed}
    shown |= {f"/course/lessons_src/{path.relative_to(PACKAGE)}": str(path) for path in visible(PACKAGE)}
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

"""The confined side. One process loads the libraries once, then forks a sealed process for every submission.

`sandbox` starts it inside bubblewrap. What is here holds no secret and decides nothing: it runs cells, and calls the
learner's functions on arguments that arrive. Everything it says is taken for the learner's own word.

A sealed process lives in user, mount, process, network and IPC namespaces of its own, with empty temporary folders, no
capabilities, few system calls and hard limits. It is process 1 there, so all that it started dies with it.
"""

import contextlib
import ctypes
import importlib
import inspect
import io
import json
import os
import platform
import re
import resource
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, NoReturn

from lessons_src.exercises import wire
from lessons_src.exercises.tasks import NoAnswer, ask, one_line

HOME = "/home/student"
MEMORY = 3 << 30  # bytes that one process may map beyond what was loaded; the host watches all processes together
LIMITS = {"NPROC": 64, "NOFILE": 128, "CORE": 0}
MAX_TEXT, MAX_IMAGES, MAX_IMAGE = 20_000, 4, 1 << 20  # kept of a cell's output: characters, pictures, bytes of each
MAX_FRAME = 8 << 20  # bytes of one message: room for the pictures of a cell, or a value at the limits of `wire`
MAX_VALUES = 200_000  # of one message, which become objects of some hundred bytes each; text may look like as many
libc = ctypes.CDLL(None, use_errno=True)

# System calls refused once sealed, by number in the kernel's table of the machine: more namespaces and mounts, memory
# that no limit counts once it is not mapped, other processes' memory, and parts of the kernel that no notebook needs.
REFUSED = {
    "x86_64": {"shmget": 29, "semget": 64, "msgget": 68, "ptrace": 101, "pivot_root": 155, "chroot": 161, "mount": 165}
    | {"umount2": 166, "mq_open": 240, "add_key": 248, "request_key": 249, "keyctl": 250, "unshare": 272}
    | {"perf_event_open": 298, "setns": 308, "process_vm_readv": 310, "process_vm_writev": 311, "memfd_create": 319}
    | {"bpf": 321, "userfaultfd": 323, "vmsplice": 278},
    "aarch64": {"shmget": 194, "semget": 190, "msgget": 186, "ptrace": 117, "pivot_root": 41, "chroot": 51, "mount": 40}
    | {"umount2": 39, "mq_open": 180, "add_key": 217, "request_key": 218, "keyctl": 219, "unshare": 97}
    | {"perf_event_open": 241, "setns": 268, "process_vm_readv": 270, "process_vm_writev": 271, "memfd_create": 279}
    | {"bpf": 280, "userfaultfd": 282, "vmsplice": 75},
}
REFUSED_ANYWHERE = {"io_uring_setup": 425, "open_tree": 428, "move_mount": 429, "fsopen": 430, "mount_setattr": 442}
REFUSED_ANYWHERE |= {"memfd_secret": 447}
ARCHITECTURE, SOCKET, CLONE3 = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}, {"x86_64": 41, "aarch64": 198}, 435
MMAP, SHARED_ANONYMOUS = {"x86_64": 9, "aarch64": 222}, 0x21  # the flags MAP_SHARED and MAP_ANONYMOUS


class OutOfTime(KeyboardInterrupt):
    """Raised in the middle of a learner's code; `except Exception` does not hold it up."""


def main(arguments: list[str]) -> None:
    """Load, say so, then fork at every message: it brings a socket to serve, and one whose closing ends it all.

    arguments: the file descriptor that messages come from, "confined" or not, and the modules to load.
    """
    control_fd, confined, modules = int(arguments[0]), arguments[1] == "confined", arguments[2:]
    if confined and os.getuid() == 0:  # whom a limit on processes would not bind
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        libc.prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE, which setuid took away: its /proc files stay its own
    shell = load(modules)
    control = socket.socket(fileno=control_fd)
    control.sendall(b"+")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # leaves no zombies
    while True:
        message, fds, *_ = socket.recv_fds(control, 1, 2)
        if not message:
            return
        if os.fork() == 0:
            control.close()
            guard(shell, *fds, confined)
        for fd in fds:
            os.close(fd)


def load(modules: list[str]) -> Any:
    """Import what submissions will need, and return the IPython shell that their cells run in."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    for module in modules:
        with contextlib.suppress(Exception):  # whoever imports it in a cell will be told
            importlib.import_module(module)

    class Shell(InteractiveShell):
        def enable_gui(self, gui: str | None = None) -> None:
            """There is no window system to start; %matplotlib inline works without."""

    config = Config(Shell={"colors": "nocolor"}, HistoryManager={"enabled": False})
    return Shell.instance(config=config)


def guard(shell: Any, channel: int, lifeline: int, confined: bool) -> NoReturn:
    """Fork the process that serves, and kill it when it ends or the host lets go of the lifeline."""
    try:
        if confined:
            uid, gid = os.getuid(), os.getgid()
            new = 0x10000000 | 0x00020000 | 0x20000000 | 0x40000000 | 0x08000000  # user, mount, process, network, IPC
            system_call(libc.unshare, new)
            for name, text in {"setgroups": "deny", "uid_map": f"1000 {uid} 1", "gid_map": f"1000 {gid} 1"}.items():
                with open(f"/proc/self/{name}", "w") as file:
                    file.write(text)
        child = os.fork()
        if child == 0:
            os.close(lifeline)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            if confined:
                seal()
            serve(shell, socket.socket(fileno=channel))
        os.close(channel)
        select.select([lifeline, os.pidfd_open(child)], [], [])
        os.kill(child, signal.SIGKILL)
    finally:
        os._exit(0)


def seal() -> None:
    """Give up everything that running a notebook does not need; raises OSError if any of it cannot be given up."""
    with open("/proc/self/statm") as file:
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    with open("/proc/sys/user/max_user_namespaces", "w") as file:
        file.write("0")
    for folder in ("/tmp", "/dev/shm", HOME):
        empty(folder)
    system_call(libc.mount, b"tmpfs", b"/proc", b"tmpfs", 7, b"size=4k")  # read-only: nothing to see there
    os.chdir(HOME)
    for name, limit in {**LIMITS, "AS": mapped + MEMORY}.items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (limit, limit))
    header, none = struct.pack("=Ii", 0x20080522, 0), bytes(24)
    system_call(libc.capset, header, none)
    program = seccomp_filter()
    buffer = ctypes.create_string_buffer(program)
    pointer = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
    system_call(libc.prctl, 22, 2, pointer, 0, 0)  # PR_SET_SECCOMP, with a filter


def empty(folder: str) -> None:
    """Put a small folder of this process's own in place of `folder`; Python stays visible if it is installed there."""
    installed = {sys.prefix, sys.base_prefix, os.path.dirname(os.path.dirname(os.path.realpath(sys.executable)))}
    kept = {path: os.open(path, os.O_PATH) for path in installed if path.startswith(f"{folder}/")}
    system_call(libc.mount, b"tmpfs", folder.encode(), b"tmpfs", 6, b"size=64m,nr_inodes=2k,mode=700")  # nosuid, nodev
    mask = os.umask(0o222)  # what lies on the way there is not to be written
    for path, fd in kept.items():
        os.makedirs(path, exist_ok=True)
        system_call(libc.mount, f"/proc/self/fd/{fd}".encode(), path.encode(), None, 0x5000, None)  # bind, recursively
        os.close(fd)
    os.umask(mask)


def seccomp_filter() -> bytes:
    """A classic BPF program: EPERM for REFUSED calls, unusual sockets and shared memory without a file.

    clone3 is answered with ENOSYS, as by an older kernel; a call of another ABI ends the process.
    """
    machine = platform.machine()
    load, equal, at_least, mask, give = 0x20, 0x15, 0x35, 0x54, 0x06
    allow, kill, errno = 0x7FFF0000, 0x80000000, 0x00050000

    def op(code: int, k: int, yes: int = 0, no: int = 0) -> bytes:
        return struct.pack("=HBBI", code, yes, no, k)

    code = [op(load, 4), op(equal, ARCHITECTURE[machine], 1), op(give, kill)]
    code += [op(load, 0), op(at_least, 0x40000000, 0, 1), op(give, kill)]
    code += [op(equal, CLONE3, 0, 1), op(give, errno | 38)]
    for number in (REFUSED[machine] | REFUSED_ANYWHERE).values():
        code += [op(equal, number, 0, 1), op(give, errno | 1)]
    code += [op(equal, MMAP[machine], 0, 4), op(load, 40), op(mask, SHARED_ANONYMOUS)]  # its fourth argument, flags
    code += [op(equal, SHARED_ANONYMOUS, 0, 1), op(give, errno | 1), op(load, 0)]
    code += [op(equal, SOCKET[machine], 0, 5), op(load, 16)]  # its first argument, the family: AF_UNIX, _INET, _INET6
    code += [op(equal, 1, 3), op(equal, 2, 2), op(equal, 10, 1), op(give, errno | 1), op(give, allow)]
    return b"".join(code)


def system_call(function: Any, *arguments: Any) -> None:
    """Call a function of the C library; OSError if it fails."""
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{function.__name__}: {os.strerror(number)}")


def serve(shell: Any, channel: socket.socket) -> NoReturn:
    """Answer requests until the other side hangs up."""
    for fd in range(3):
        os.dup2(os.open(os.devnull, os.O_RDWR), fd)
    me = os.getpid()
    send(channel, {"ready": True})
    while True:
        request = receive(channel)
        if "seconds" not in request:
            continue  # what a helper gave to a call whose time was up
        try:
            with limited(request["seconds"], request["clock"]):
                reply = run(shell, request["run"]) if "run" in request else call(shell, request, channel)
        except (NoAnswer, OutOfTime) as reason:
            reply = {"none": str(reason)}
        except BaseException as error:  # of the learner's making, whatever it is
            reply = {"none": f"It stopped with {type(error).__name__}."}
        if os.getpid() != me:
            os._exit(0)  # a copy, forked by a cell: one of us is enough
        send(channel, reply | {"number": request["number"]})


def run(shell: Any, source: str) -> dict[str, Any]:
    """Run a cell; return its text output, pictures, and the error's name if there was one."""
    from IPython.core.displaypub import CapturingDisplayPublisher

    sink, publisher = Sink(), CapturingDisplayPublisher()
    shell.display_pub = publisher
    with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
        result = shell.run_cell(source, store_history=True)
    if error := result.error_before_exec or result.error_in_exec:
        text = f"{error.msg} (line {error.lineno})" if isinstance(error, SyntaxError) else error
        stopped.append((source, f"{type(error).__name__}: {one_line(text)}"))
    shown = [output["data"] for output in publisher.outputs]
    for data in shown:
        sink.write(f"{data.get('text/plain', '')}\n")
    images = [data["image/png"] for data in shown if isinstance(data.get("image/png"), str)]
    small = [image for image in images if len(image) <= 4 * MAX_IMAGE / 3 + 4]  # in base64
    if len(small) < len(images):
        sink.write("[a picture of more than 1 MB is left out]\n")
    return {"text": sink.text(), "images": small[:MAX_IMAGES], "error": type(error).__name__ if error else ""}


def call(shell: Any, request: dict[str, Any], channel: socket.socket) -> dict[str, Any]:
    """Call a learner's function, which finds some others answered by the host; return its answer, encoded."""
    name, scope = request["call"], shell.user_ns
    if not callable(function := scope.get(name)):
        raise NoAnswer(undefined(name, scope))
    arguments = tuple(wire.decode(argument) for argument in request["arguments"])
    own = {helper: scope[helper] for helper in request["helpers"] if helper in scope}
    for helper in request["helpers"]:
        scope[helper] = Helper({"ask": helper, "number": request["number"]}, own.get(helper), channel)
    try:
        with contextlib.redirect_stdout(Sink()), contextlib.redirect_stderr(Sink()):
            return {"answer": wire.encode(ask(function, arguments))}
    finally:
        for helper in request["helpers"]:
            scope.pop(helper, None)
        scope.update(own)


stopped: list[tuple[str, str]] = []  # cells that did not run to their end, and why


def undefined(name: str, scope: dict[str, Any]) -> str:
    """Why there is no function of a name: what stopped the last cell that speaks of it, or else the first."""
    if name in scope:
        return f"{name} is no function, but of type {type(scope[name]).__name__}."
    about = [why for source, why in stopped if re.search(rf"\b{name}\b", source)][-1:]
    about += [why for _, why in stopped[:1]]
    why = f": a cell stopped with {about[0]}" if about else "."
    return f"{name} is not defined when the notebook is run from top to bottom{why}"


class Helper:
    """Stands for a function that the host answers in place of the learner's own."""

    def __init__(self, message: dict[str, Any], own: Any, channel: socket.socket) -> None:
        self.message, self.own, self.channel, self.lock = message, own, channel, threading.Lock()

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Ask the host. Raises RuntimeError with its reason if it has no answer."""
        if named:  # in the order of the learner's own parameters
            arguments = inspect.signature(self.own).bind(*arguments, **named).args
        with self.lock:
            send(self.channel, self.message | {"arguments": [wire.encode(argument) for argument in arguments]})
            reply = receive(self.channel)
        if "answer" not in reply:
            raise RuntimeError(reply["none"])
        return wire.decode(reply["answer"], plain=True)


class Sink(io.TextIOBase):
    """Takes any amount of text and keeps the beginning."""

    def __init__(self) -> None:
        self.kept, self.left = [], MAX_TEXT

    def write(self, text: str) -> int:
        """Keep what there is room for."""
        if self.left > 0:
            self.kept.append(text[: self.left])
        self.left -= len(text)
        return len(text)

    def text(self) -> str:
        """What was kept, and a note where it was cut."""
        return "".join(self.kept) + ("\n[output cut here]\n" if self.left < 0 else "")


@contextlib.contextmanager
def limited(seconds: float, clock: float) -> Iterator[None]:
    """Raise OutOfTime after so many seconds of processor time, or of the clock."""

    def stop(*_: Any) -> NoReturn:
        raise OutOfTime(f"It took longer than {seconds:g} seconds.")

    timers = ((signal.SIGPROF, signal.ITIMER_PROF, seconds), (signal.SIGALRM, signal.ITIMER_REAL, clock))
    for number, timer, limit in timers:
        signal.signal(number, stop)
        signal.setitimer(timer, limit)
    try:
        yield
    finally:
        for _, timer, _ in timers:
            signal.setitimer(timer, 0)


def send(channel: socket.socket, message: Any) -> None:
    """Send a message: its length, then JSON."""
    content = json.dumps(message).encode()
    channel.sendall(struct.pack("=I", len(content)) + content)


def receive(channel: socket.socket, seconds: float | None = None) -> Any:
    """Return the next message.

    Raises TimeoutError if it is not all there in time, EOFError if the other side is gone, ValueError for a message
    that is too long, too finely divided, or no JSON in ASCII.
    """
    end = None if seconds is None else time.monotonic() + seconds

    def read(size: int) -> bytes:
        parts = bytearray()
        while len(parts) < size:
            channel.settimeout(None if end is None else max(end - time.monotonic(), 0.001))
            part = channel.recv(min(size - len(parts), 1 << 20))
            if not part:
                raise EOFError
            parts += part
        return bytes(parts)

    (size,) = struct.unpack("=I", read(4))
    if size > MAX_FRAME:
        raise ValueError(f"a message of {size} bytes; expected at most {MAX_FRAME}")
    content = read(size)
    if sum(content.count(mark) for mark in (b"[", b"{", b",")) > MAX_VALUES:  # asked before memory is spent on them
        raise ValueError(f"a message of more than {MAX_VALUES} values")
    try:
        return json.loads(content.decode("ascii"))
    except RecursionError:
        raise ValueError("a message nested too deeply") from None

"""Submissions that break things or try to cheat: none earns what it did not, none costs another task its points."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell
from two_tasks import RIGHT, submission

from lessons_src.grading import grade as grade_module
from lessons_src.grading import sandbox as sandbox_module
from lessons_src.grading.sandbox import Died, Sandbox

FULL, LOST = {"halve": 3, "target": 4}, {"halve": 3, "target": 0}

# What stands in the answer cell of `target`, and a word of what its learner is told.
WORTH_NOTHING = {
    "not written": ("", "target is not defined"),
    "the stub": ("def target(x, n):\n    raise NotImplementedError", "Not written yet"),
    "a missing module": (
        "import no_such_module\n" + RIGHT["target"],
        "not defined when the notebook is run from top to bottom: a cell stopped with ModuleNotFoundError: No module",
    ),
    "a syntax error": (
        "def target(x, n)\n    return n * x",
        "top to bottom: a cell stopped with SyntaxError: expected ':' (line 1)",
    ),
    "a question to nobody": ("n = input('n?')\n" + RIGHT["target"], "a cell stopped with EOFError"),
    "another name": (RIGHT["target"].replace("target", "traget"), "target is not defined"),
    "no function": ("target = 12", "target is no function, but of type int."),
    "a known mistake": ("def target(x, n):\n    return x + n", "This is a sum where a product belongs."),
    "an exception": ("def target(x, n):\n    return {}['no']", "KeyError"),
    "an exception without text": (
        "class E(Exception):\n    def __str__(self): raise self\ndef target(x, n):\n    raise E",
        "no message",
    ),
    "sys.exit": ("import sys\ndef target(x, n):\n    sys.exit('bye')", "SystemExit"),
    "an endless loop": ("def target(x, n):\n    while True: pass", "longer than 1 seconds."),
    "sleep": ("import time\ndef target(x, n):\n    time.sleep(999)", "longer than 1 seconds."),
    "a loop in a cell": ("while True: pass\n" + RIGHT["target"], "longer than 2 seconds."),
    "a loop that holds on": (
        "import signal\ndef target(x, n):\n"
        "    for s in (signal.SIGPROF, signal.SIGALRM): signal.signal(s, signal.SIG_IGN)\n"
        "    while True: pass",
        "could not be interrupted",
    ),
    "a cell that holds on": (
        "import signal\nfor s in (signal.SIGPROF, signal.SIGALRM): signal.signal(s, signal.SIG_IGN)\nwhile True: pass",
        "This cell was left out",
    ),
    "memory": ("def target(x, n):\n    return bytearray(8 * 10**9)", "It stopped with MemoryError"),
    "memory bit by bit": ("def target(x, n):\n    a = []\n    while True: a.append(bytearray(10**7))", ""),
    "forks": ("import os\ndef target(x, n):\n    while True: os.fork()", ""),
    "threads": (
        "import threading, time\ndef target(x, n):\n"
        "    while True: threading.Thread(target=time.sleep, args=(99,), daemon=True).start()",
        "can't start new thread",
    ),
    "os._exit": ("import os\ndef target(x, n):\n    os._exit(0)", "Its process ended"),
    "os._exit in a cell": (RIGHT["target"] + "\nimport os\nos._exit(0)", "This cell was left out"),
    "a crash": ("import ctypes\ndef target(x, n):\n    ctypes.string_at(0)", "Its process ended"),
    "NaN": ("def target(x, n):\n    return n * x * float('nan')", "NaN"),
    "infinity": ("def target(x, n):\n    return n * x / 0", ""),
    "another shape": ("def target(x, n):\n    return (n * x)[None]", "Its shape is (1, "),
    "another dtype": (
        "def target(x, n):\n    return n * x.double() if n != 2 else None",
        "float64; expected torch.float32",
    ),
    "another device": ("def target(x, n):\n    return torch.as_tensor(n * x, device='meta')", "on meta"),
    "sparse": ("def target(x, n):\n    return torch.as_tensor(n * x).to_sparse()", "sparse"),
    "complex": ("def target(x, n):\n    return n * x * (1 + 0j)", ""),
    "an array": ("def target(x, n):\n    return (n * torch.as_tensor(x)).numpy()", "numpy.ndarray"),
    "a generator": ("def target(x, n):\n    yield n * x", "generator"),
    "None": ("def target(x, n):\n    n * x", "is a return missing"),
    "text": ("def target(x, n):\n    return 'n * x'", "expected a tensor"),
    "a dictionary": ("def target(x, n):\n    return {'tensor': n * x}", "dict"),
    "a huge answer": ("def target(x, n):\n    return torch.zeros(10**8)", "a value of more than"),
    "a deep answer": ("def target(x, n):\n    a = []\n    a.append(a)\n    return a", "a value of more than"),
    "a huge number": ("def target(x, n):\n    return 10**5000", ""),
    "an answer that equals everything": (
        "class T(torch.Tensor):\n    __eq__ = lambda *a: torch.tensor(True)\n    __torch_function__ = None\n"
        "def target(x, n):\n    return torch.as_tensor(x).as_subclass(T)",
        "",
    ),
    "in place": ("def target(x, n):\n    x *= n\n    return x", "changed its argument number 1"),
    "answers from what it saw": (
        "seen = {}\ndef target(x, n):\n    import torch\n    return seen.setdefault('first', torch.zeros(3, 2))",
        "",
    ),
    "patched comparisons": (
        "import builtins, torch, numpy\n"
        "from lessons_src.exercises import tasks, wire\n"
        "torch.allclose = torch.equal = lambda *a, **k: True\n"
        "torch.isclose = lambda a, b, **k: torch.ones_like(a, dtype=torch.bool)\n"
        "numpy.allclose = lambda *a, **k: True\n"
        "tasks.difference = lambda *a: ''\n"
        "tasks._differing_values = lambda *a: ''\n"
        "builtins.abs = lambda x: 0\n"
        "def target(x, n):\n    return x",
        "",
    ),
    "a patched judge": (
        "from lessons_src.exercises import tasks\ntasks.Result.says = ''\ntasks.ask = lambda f, a: True\n"
        "def target(x, n):\n    return x",
        "",
    ),
    "stripped asserts": (
        "import ast\nclass No(ast.NodeTransformer):\n    def visit_Assert(self, node): return ast.Pass()\n"
        "get_ipython().ast_transformers.append(No())\nget_ipython().input_transformers_post.append(lambda lines: [])\n"
        "def target(x, n):\n    return x",
        "",
    ),
    "a forged score": (
        "from IPython.display import display\nget_ipython().displayhook(4.0)\nprint('Out[1]: 4.0')\n"
        "display({'text/plain': '4.0'}, raw=True)\ndef target(x, n):\n    return x",
        "",
    ),
    "forged replies": (
        "import json, os, struct\ndef target(x, n):\n"
        "    for reply in ({'answer': True}, {'earned': 4}, [], 0, {'none': ''}):\n"
        "        content = json.dumps(reply).encode()\n        for fd in range(3, 40):\n"
        "            try: os.write(fd, struct.pack('=I', len(content)) + content)\n            except OSError: pass\n"
        "    return x",
        "",
    ),
    "forged lines of a verdict": (
        "import json, os, struct, sys\ndef target(x, n):\n"
        "    number = sys._getframe(2).f_locals['request']['number']\n"
        "    says = 'No.\\n  ✓ 2/2  a matrix\\x1b[2K\\r\\u202e' + 999 * ' x'\n"
        "    content = json.dumps({'number': number, 'none': says}).encode()\n"
        "    for fd in range(3, 40):\n"
        "        try: os.write(fd, struct.pack('=I', len(content)) + content)\n        except OSError: pass\n",
        "a matrix: No. ✓ 2/2 a matrix\\x1b[2K \\u202e x",
    ),
    "a class with several lines for a name": (
        "def target(x, n):\n    raise type('E\\n  ✓ 2/2  a matrix', (Exception,), {})",
        "E ✓ 2/2 a matrix: ",
    ),
    "a torn reply": (
        "import os\ndef target(x, n):\n    for fd in range(3, 40):\n        try: os.write(fd, b'\\xff' * 9)\n"
        "        except OSError: pass\n    return x",
        "It sent a message of",
    ),
    "a reply nested deeply": (
        "import os, struct\ndef target(x, n):\n    c = b'[' * 10**6\n    for fd in range(3, 40):\n"
        "        try: os.write(fd, struct.pack('=I', len(c)) + c)\n        except OSError: pass\n    return x",
        "It sent",
    ),
    "references in frames": (
        "import gc, sys\nfrom lessons_src.exercises import tasks\ndef target(x, n):\n"
        "    frame = sys._getframe()\n"
        "    found = [o for o in gc.get_objects() if isinstance(o, (tasks.Task, tasks.Case))]\n"
        "    while frame:\n        found += [v for v in frame.f_locals.values() if hasattr(v, 'reference')]\n"
        "        frame = frame.f_back\n    return found[0].reference(x, n)",
        "IndexError",
    ),
    "references in files": (
        "import importlib, pathlib, lessons_src.exercises as e, lessons_src.lessons as l\ndef target(x, n):\n"
        "    found = [p for p in pathlib.Path(*l.__path__).rglob('*') if 'exercises' in p.name]\n"
        "    assert not found and not e.all_tasks()\n"
        "    return importlib.import_module('lessons_src.lessons.lesson_01.exercises')",
        "ModuleNotFoundError",
    ),
    "the grader's own code": (
        "def target(x, n):\n    from lessons_src.grading import grade\n    return grade",
        "ImportError",
    ),
    "history": (
        "def target(x, n):\n    shell = get_ipython()\n"
        "    past = str(shell.user_ns['In']) + str(list(shell.history_manager.get_range()))\n"
        "    assert 'empty' + ' corner' not in past and 'HID' + 'DEN' not in past\n    return past",
        "expected a tensor",
    ),
}


def test_compiled_references_are_hidden_like_their_source(tmp_path):
    for name in ("__init__.py", "explorer.py", "exercises.py", "front.py", "questions.toml"):
        path = tmp_path / "lessons" / "lesson_05" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    compiled = path.parent / "__pycache__" / "exercises.cpython-311.pyc"
    compiled.parent.mkdir()
    compiled.write_bytes(b"")
    shown = sandbox_module.visible(tmp_path)
    assert {path.name for path in shown} == {"__init__.py", "explorer.py", "front.py", "questions.toml"}


@pytest.mark.parametrize(("answer", "told"), WORTH_NOTHING.values(), ids=WORTH_NOTHING)
def test_a_bad_answer_loses_its_own_points_and_no_others(graded, answer, told):
    scores, text = graded(submission(target=answer))
    assert scores == LOST
    assert told in "".join(str(part) for part in strings(json.loads(text)))


def strings(value):
    """All text in a JSON value."""
    if isinstance(value, str):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from strings(part)


# What a right `target` may do besides, without losing anything.
HARMLESS = {
    "prints 100 MB": RIGHT["target"] + "\nfor _ in range(1000): print('x' * 100_000)",
    "prints while it answers": "def target(x, n):\n    print('x' * 10**7)\n    return n * x",
    "warns": "import sys, warnings\nwarnings.warn('w')\nprint('e', file=sys.stderr)\n" + RIGHT["target"],
    "is slow": "import time\ndef target(x, n):\n    time.sleep(0.3)\n    return n * x",
    "shadows names": "json = wire = list = len = type = print = None\n" + RIGHT["target"],
    "float64 by default": "torch.set_default_dtype(torch.float64)\n" + RIGHT["target"],
    "keeps gradients": "def target(x, n):\n    return n * torch.as_tensor(x).requires_grad_()",
    "a module": "class Twice(torch.nn.Module):\n    def forward(self, x, n): return n * x\ntarget = Twice()",
    "a lambda": "target = lambda x, n: n * x",
    "a partial": "import functools, operator\ntarget = functools.partial(operator.mul)",
    "forks": "import os\nfor _ in range(3): os.fork()\n" + RIGHT["target"],
    "forks in its answer": "import os\ndef target(x, n):\n    for _ in range(3): os.fork()\n    return n * x",
    "uses processes": "import subprocess\nassert subprocess.run(['true']).returncode == 0\n" + RIGHT["target"],
    "awaits": "import asyncio\nawait asyncio.sleep(0)\n" + RIGHT["target"],
    "magics": "%matplotlib inline\n%time 1 + 1\n" + RIGHT["target"],
    "exits": RIGHT["target"] + "\nraise SystemExit(1)",
    "calls the check": RIGHT["target"] + "\nprint(check(target))",
    "asks for input": RIGHT["target"] + "\ninput('?')",
    "a draft first": "def target(x, n):\n    return x\n" + RIGHT["target"],
    "warnings are errors": "import warnings\nwarnings.simplefilter('error')\n" + RIGHT["target"],
    "another folder": "import os\nos.chdir('/')\n" + RIGHT["target"],
}


@pytest.mark.parametrize("answer", HARMLESS.values(), ids=HARMLESS)
def test_a_right_answer_keeps_its_points_whatever_else_it_does(graded, answer):
    scores, text = graded(submission(target=answer))
    assert scores == FULL, text
    assert len(text) < 200_000


DRAW = """
import base64, os
from IPython.display import display
content = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ") + os.urandom((1 << 20) - 100)
for _ in range(4): display({"image/png": base64.b64encode(content).decode()}, raw=True)
"""
SEND = """
import os, struct
content = b'{"text": [' + b'[],' * 2_700_000 + b'0]}'
for fd in range(3, 40):
    try:
        rest = struct.pack('=I', len(content)) + content
        while rest: rest = rest[os.write(fd, rest):]
    except OSError: pass
"""


@pytest.mark.parametrize(("cell", "scores"), [(DRAW, FULL), (SEND, {"halve": 0, "target": 0})], ids=["draws", "sends"])
def test_what_cells_send_takes_little_of_the_graders_memory(graded, cell, scores):
    def send(made):
        made.cells[2:2] = [new_code_cell(f"{cell}# {number}") for number in range(30)]

    Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
    before = memory("VmRSS")
    assert graded(submission(send))[0] == scores
    assert memory("VmHWM") - before < 200 << 20


def memory(name):
    """A line of this process's status, in bytes."""
    return int(re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) << 10


def test_a_picture_that_is_too_large_costs_nothing_but_itself(graded):
    draw = DRAW.replace("1 << 20", "3 << 20")
    scores, text = graded(submission(target=RIGHT["target"] + draw))
    assert scores == FULL
    assert "[a picture of more than 1 MB is left out]" in text


# Expressions evaluated in the sealed process, that must be true there.
SEALED = {
    "no network": "refused(lambda: socket.create_connection(('127.0.0.1', PORT), 2))",
    "no socket in the file system": "refused(lambda: socket.socket(socket.AF_UNIX).connect(SECRET + '.sock'))",
    "no abstract socket": "refused(lambda: socket.socket(socket.AF_UNIX).connect(ABSTRACT))",
    "no name resolution": "refused(lambda: socket.getaddrinfo('example.org', 80))",
    "no vsock": "refused(lambda: socket.socket(40, socket.SOCK_STREAM))",
    "no netlink": "refused(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW))",
    "no file of the grader": "refused(lambda: open(SECRET))",
    "no home folder": "os.listdir('/home') == ['student'] and os.listdir('/home/student') == []",
    "no references": "not [f for f in os.listdir('/course/lessons_src/exercises') if f.startswith('lesson_')]",
    "no grader": "set(os.listdir('/course/lessons_src/grading')) == {'worker.py'}",
    "no other processes": "os.getpid() == 1 and os.listdir('/proc') == []",
    "no signals to others": "refused(lambda: os.kill(-1, 0))",
    "no secrets in the environment": "'LESSONS_SECRET' not in os.environ",
    "no root": "refused(lambda: os.setuid(0)) and 0 not in os.getresuid()",
    "no mounts": "failed(libc.mount(b'tmpfs', b'/usr', b'tmpfs', 0, None)) and failed(libc.umount2(b'/proc', 2))",
    "no namespaces": "failed(libc.unshare(0x10000000)) and failed(libc.unshare(0x00020000))",
    "no debugging": "failed(libc.ptrace(0, 0, 0, 0))",
    "no chroot": "refused(lambda: os.chroot('/tmp'))",
    "no unlimited memory": "refused(lambda: os.memfd_create('m')) and failed(libc.shmget(0, 1 << 30, 0o1600))",
    "no nameless shared memory": "[refused(lambda: mmap.mmap(-1, 9, kind)) for kind in (1, 2)] == [True, False]",
    "no shared zeros": "refused(lambda: mmap.mmap(os.open('/dev/zero', os.O_RDWR), 1 << 20))",
    "no secret memory": "failed(libc.syscall(447, 0))",
    "no memory held by pipes": "failed(libc.vmsplice(os.pipe()[1], struct.pack('PN', id(b''), 1), 1, 0))",
    "no device": "refused(lambda: os.mknod('/tmp/d', 0o060600, 0x800))",
    "no large file": "refused(lambda: open('/tmp/big', 'wb').write(bytes(100 << 20)))",
    "few processes": "refused(lambda: [os.posix_spawn('/bin/sleep', ['sleep', '9'], {}) for _ in range(100)])",
    "few open files": "refused(lambda: [open('/dev/null') for _ in range(500)])",
    "no capabilities": "capabilities() == bytes(24)",
    "no namespaces by clone": "failed(libc.syscall(CLONE[os.uname().machine], 0x10000011, 0, 0, 0, 0))",
    "small folders": "all(os.statvfs(f).f_blocks << 12 <= 64 << 20 for f in ('/tmp', '/dev/shm', '.'))",
    "many files": "refused(lambda: [open(f'/tmp/{i}', 'w').close() for i in range(9999)])",
    "writable": "sorted(d for d in folders('/', 3) if can_write(d)) == ['/dev/shm', '/home/student', '/tmp']",
    "core files": "resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)",
    "limits": "refused(lambda: resource.setrlimit(resource.RLIMIT_NPROC, (999, 999)))",
}
PROBE = """
import ctypes, mmap, os, resource, signal, socket, struct
PORT, SECRET, ABSTRACT, CLONE = {port}, {secret!r}, {abstract!r}, {{"x86_64": 56, "aarch64": 220}}
libc = ctypes.CDLL(None, use_errno=True)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

def refused(attempt):
    try: attempt()
    except (OSError, ValueError): return True
    return False

def capabilities():
    data = ctypes.create_string_buffer(24)
    libc.capget(struct.pack("=Ii", 0x20080522, 0), data)
    return data.raw

def failed(result): return result == -1

def can_write(folder):
    try:
        with open(f"{{folder}}/probe", "w"): pass
    except OSError: return False
    os.remove(f"{{folder}}/probe")
    return True

def folders(path, depth):
    yield path
    for entry in os.scandir(path) if depth else ():
        if entry.is_dir(follow_symlinks=False): yield from folders(entry.path, depth - 1)

print({probe})
"""


@pytest.fixture(scope="module")
def surroundings(tmp_path_factory):
    """What a grader's machine has: a secret file, a server, sockets in the file system and outside of it."""
    secret = tmp_path_factory.mktemp("class") / "gradebook.db"
    secret.write_text("everyone's scores")
    servers, abstract = [socket.create_server(("127.0.0.1", 0))], f"\0{secret.parent.name}-{os.getpid()}"
    for address in (f"{secret}.sock", abstract):
        servers.append(socket.socket(socket.AF_UNIX))
        servers[-1].bind(address)
        servers[-1].listen()
    yield {"port": servers[0].getsockname()[1], "secret": str(secret), "abstract": abstract}
    for server in servers:
        server.close()


@pytest.mark.parametrize("probe", SEALED.values(), ids=SEALED)
def test_the_sealed_process_can_reach_nothing(sandbox, surroundings, probe):
    with sandbox.open() as kernel:
        reply = kernel.run(PROBE.format(probe=probe, **surroundings), 10)
    assert reply["text"] == "True\n", reply["text"]


def test_the_surroundings_are_there_to_be_reached(surroundings, monkeypatch):
    socket.create_connection(("127.0.0.1", surroundings["port"]), 2).close()
    for address in (surroundings["secret"] + ".sock", surroundings["abstract"]):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(address)


def test_nothing_stays_for_the_next_submission(sandbox):
    leave = """
import os, subprocess, sys
for folder in ('/tmp', '/dev/shm', '/home/student'):
    open(f'{folder}/left', 'w').write('mine')
subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(3210)'], start_new_session=True)
import torch
torch.left = 1
"""
    with sandbox.open() as kernel:
        assert kernel.run(leave, 10)["error"] == ""
        assert running("time.sleep(3210)")
    for _ in range(50):
        if not running("time.sleep(3210)"):
            break
        time.sleep(0.1)
    assert not running("time.sleep(3210)")
    with sandbox.open() as kernel:
        look = "import os, torch; print([os.path.exists(f'{f}/left') for f in ('/tmp', '/dev/shm', '.')])"
        assert kernel.run(look, 10)["text"] == "[False, False, False]\n"
        assert kernel.run("print(hasattr(torch, 'left'))", 10)["text"] == "False\n"


def running(words):
    """Whether any process of this machine was started with `words`."""
    listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return any(words in line and "ps -eo" not in line for line in listing.splitlines())


def test_two_submissions_at_a_time_do_not_meet(sandbox):
    leave = "open('/tmp/note', 'w').write('for you')\ns = socket.socket(socket.AF_UNIX)\ns.bind('\\0meet')\ns.listen()"
    look = "import os\nprint(os.path.exists('/tmp/note'))\nsocket.socket(socket.AF_UNIX).connect('\\0meet')"
    with sandbox.open() as one, sandbox.open() as two:
        assert one.run(f"import socket\n{leave}", 5)["error"] == ""
        text = two.run(f"import socket\n{look}", 5)
    assert text["text"].startswith("False\n")
    assert text["error"] == "ConnectionRefusedError"


def test_the_processes_of_a_submission_have_a_limit_together(sandbox):
    source = "import os\nfor _ in range(4): os.fork()\na = bytearray(10**9)\nwhile True: pass"
    with sandbox.open() as kernel, pytest.raises(Died, match="too much memory"):
        kernel.run(source, 60)


# Each in processes that outlive the cell's own: more than a gigabyte is held, and the limit is one for this test.
HOARDS = {
    "in several processes": "for _ in range(2): os.fork()\na = bytearray(4 * 10**8)\nwhile True: pass",
    "in what many idle processes shared": (
        "a, start = bytearray(10**8), time.monotonic()\nfor _ in range(15):\n    if os.fork() == 0:\n"
        "        time.sleep(max(0, start + 2 - time.monotonic()))\n        a[::4096] = bytes(-(-10**8 // 4096))\n"
        "        time.sleep(99)\ntime.sleep(99)"
    ),
    "in the buffers of sockets": (
        "import socket\nfor _ in range(30):\n    if os.fork() == 0:\n        kept = []\n        try:\n"
        "            while True:\n                kept += socket.socketpair()\n"
        "                for end in kept[-2:]:\n"
        "                    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 26)\n"
        "                    end.setblocking(False)\n                    try:\n"
        "                        while True: end.send(bytes(60_000))\n"
        "                    except BlockingIOError: pass\n        except OSError: time.sleep(99)\ntime.sleep(99)"
    ),
    "in a thread that the first leaves behind": (
        "def hoard():\n    time.sleep(0.5)\n    os.fork()\n    a = bytearray(8 * 10**8)\n    while True: pass\n"
        "import ctypes\nthreading.Thread(target=hoard).start()\n"
        "ctypes.CDLL(None).syscall({'x86_64': 60, 'aarch64': 93}[os.uname().machine], 0)"
    ),
}


@pytest.mark.parametrize("hoard", HOARDS.values(), ids=HOARDS)
def test_memory_is_found_where_it_is_held(sandbox, monkeypatch, hoard):
    monkeypatch.setattr(sandbox_module, "MEMORY", 1 << 30)
    with sandbox.open() as kernel, pytest.raises(Died, match="too much memory"):
        kernel.run(f"import os, threading, time\n{hoard}", 10)


def test_a_thread_that_just_ended_hides_no_process(monkeypatch):
    child, listdir = subprocess.Popen(["sleep", "9"]), os.listdir
    monkeypatch.setattr(sandbox_module.os, "listdir", lambda path: ["0", *listdir(path)])
    assert child.pid in sandbox_module._family(os.getpid())
    child.kill()
    child.wait()


def test_memory_that_processes_share_counts_once(sandbox, monkeypatch):
    monkeypatch.setattr(sandbox_module, "MEMORY", 1 << 30)
    fork = "import os, time\na = bytearray(3 * 10**8)\nfor _ in range(20):\n    if os.fork() == 0: time.sleep(99)"
    with sandbox.open() as kernel:
        kernel.run(fork, 10)
        assert kernel.run("time.sleep(1)\nprint(len(a))", 5)["text"] == "300000000\n"


def test_a_control_group_limits_memory_where_one_can_be_made(tmp_path, monkeypatch, sandbox):
    """A folder stands for the kernel's own: what is written there is all that can be seen."""
    own = re.search(r"^0::/(.*)$", Path("/proc/self/cgroup").read_text(), re.MULTILINE)
    if not own:
        pytest.skip("this kernel has no control groups of version 2")
    for folder in (tmp_path / own[1] / "x").parents:
        if folder.is_relative_to(tmp_path):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "cgroup.subtree_control").write_text("")
    (tmp_path / "cgroup.subtree_control").write_text("cpu memory pids\n")
    monkeypatch.setattr(sandbox_module, "CGROUPS", tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with sandbox.open() as kernel:
        [group] = tmp_path.glob("submission-*")
        assert {path.name: path.read_text() for path in group.iterdir()} == {
            "memory.max": str(sandbox_module.MEMORY),
            "memory.swap.max": "0",
            "memory.oom.group": "1",
            "cgroup.procs": group.name.removeprefix("submission-"),
        }
        (group / "memory.events").write_text("low 0\noom 3\noom_kill 2\n")
        with pytest.raises(Died, match="too much memory"):
            kernel.run("import os\nos._exit(1)", 5)
    (tmp_path / "cgroup.subtree_control").write_text("cpu\n")
    with sandbox.open() as kernel:
        assert kernel.run("1 + 1", 5)["error"] == ""
    (tmp_path / "cgroup.subtree_control").write_text("memory\n")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with sandbox.open() as kernel:
        assert kernel.run("1 + 1", 5)["error"] == ""
    assert list(tmp_path.glob("submission-*")) == [group]


def test_a_dead_sandbox_is_started_again(bubblewrap):
    with Sandbox() as box:
        box._process.kill()
        box._process.wait()
        with box.open() as kernel:
            assert kernel.run("1 + 1", 5)["text"] == "Out[1]: 2\n"


def test_an_installed_copy_of_the_package_is_covered(tmp_path, monkeypatch, bubblewrap):
    copy = tmp_path / "site-packages" / "lessons_src"
    copy.mkdir(parents=True)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.syspath_prepend(str(copy.parent))
    command = sandbox_module._bubblewrap()
    assert command[command.index(str(copy)) - 1] == "--tmpfs"


def test_a_submission_has_only_so_many_lives_and_so_much_time(graded):
    def deadly(made):
        made.cells += [new_code_cell(f"import os\nos._exit({number})") for number in range(20)]

    scores, text = graded(submission(deadly))
    assert scores == {"halve": 0, "target": 0}
    assert "Not tried: 6 cells of this notebook ended its process." in text
    assert "used up" not in text


@pytest.mark.parametrize("nap", ["time.sleep(60)", "try: time.sleep(60)\nexcept BaseException: time.sleep(60)"])
def test_the_time_of_a_notebook_is_a_bound(graded, nap):
    def sleepy(made):
        made.cells[1:1] = [new_code_cell(f"import time\n{nap}\n# {number}") for number in range(30)]

    start = time.monotonic()
    scores, text = graded(submission(sleepy), total=3, cell=20)
    assert time.monotonic() - start < 15
    assert scores == {"halve": 0, "target": 0}
    assert "Not tried: the time for this notebook was used up." in text
    answer = "import time\ndef halve(x): time.sleep(60)"
    start = time.monotonic()
    graded(submission(halve=answer), total=3, call=20)
    assert time.monotonic() - start < 15


def test_an_answer_that_ends_its_process_uses_up_no_others_chances(graded, monkeypatch):
    monkeypatch.setattr(grade_module, "MAX_DEATHS", 2)
    scores, text = graded(submission(halve="import os\ndef halve(x):\n    os._exit(0)"))
    assert scores == {"halve": 0, "target": 4}
    assert "Its process ended, by itself or at a limit. It was the second time: halve is not called again." in text
    assert "used up" not in text


def test_an_answer_that_ends_its_process_once_is_called_again(graded):
    answer = "import os, torch\ndef halve(x):\n    return x / 2 if torch.is_tensor(x) else os._exit(0)"
    assert graded(submission(halve=answer))[0] == {"halve": 2, "target": 4}


def test_new_inputs_for_a_new_submission_only(graded):
    """An exception can carry the inputs into the feedback; they must not be the inputs of the next attempt."""
    leak = "def target(x, n):\n    raise ValueError(str(x))"
    first, again, other = (graded(submission(target=leak), seed)[1] for seed in ("a", "a", "b"))
    assert first == again
    assert first != other

"""Judges that no generator has seen, and what they say about this course's networks, found on a GPU in minutes.

python tests/benchmarks/judge_search.py [--device cuda] [--out FOLDER] [--seconds 480] [--only JOB ...]
python tests/benchmarks/judge_search.py --device cpu --smoke --out FOLDER       # the whole path in tiny sizes

Starts the jobs of judge_jobs.py as processes of their own, which share the card and end together. What they find is
gathered every few seconds: judge_search.json has all results and judge_search.log the output; judge_weights.tar has
networks as safetensors, in half precision; judge_samples.tar has images as uint8 in npz files. A job that fails is
started once more without CUDA graphs, and keeps the stages it had. Needs torch, numpy and safetensors.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ORDER = ("judge_a", "judge_b", "settle", "memorise", "distill", "noisy", "confirm", "guided")
AT_LATEST = {"confirm": 0.25, "guided": 0.3}  # share of the time after which a job no longer waits for a place
PLACES = 6  # jobs at once, before that
LIMIT = 14_000_000  # bytes of an archive
KEPT_STEPS = (500, 2000)  # of memorising networks, besides the last
GATHER = 15.0  # seconds between two looks
GRACE = 10.0  # seconds for the last of all


@dataclass
class Running:
    """A job's process."""

    name: str
    process: subprocess.Popen
    log: Any
    eager: bool
    started: float


def start(name: str, options: argparse.Namespace, work: Path, until: float, eager: bool) -> Running:
    """A job as a process of its own, one thread each."""
    command = [sys.executable, str(HERE / "judge_search.py"), "--job", name, "--until", str(until)]
    command += ["--work", str(work), "--device", options.device, "--judge-data", options.judge_data]
    command += ["--smoke"] if options.smoke else []
    command += ["--eager"] if eager else []
    one = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    path = os.pathsep.join([str(HERE.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    log = open(work / f"{name}.log", "ab")  # noqa: SIM115 # lives as long as the process
    process = subprocess.Popen(
        command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        env={**os.environ, **one, "PYTHONPATH": path},
    )  # fmt: skip
    return Running(name, process, log, eager, time.time())


def write_whole(path: Path, fill: Any) -> None:
    """Let `fill` write a temporary file, then rename it."""
    part = path.with_name(f".{path.name}.part")
    fill(part)
    os.replace(part, path)


def archive(path: Path, members: Sequence[Path], said: list[str]) -> None:
    """As many of the files as there is room for, into one archive."""

    def fill(part: Path) -> None:
        room = LIMIT
        with tarfile.open(part, "w") as tar:
            for member in members:
                if member.stat().st_size > room:
                    said.append(f"{member.name} has no room in {path.name}")
                    continue
                room -= member.stat().st_size
                tar.add(member, member.name)

    write_whole(path, fill)


def chosen(work: Path, kind: str) -> list[Path]:
    """The files of a kind that come along, the most wanted first."""
    files = sorted(path for path in work.glob(f"*.{kind}") if not path.name.startswith("."))
    steps: dict[str, list[int]] = {}
    for path in files:
        if found := re.fullmatch(r"memorise_(\d+)_(\d+)", path.stem):
            steps.setdefault(found[1], []).append(int(found[2]))
    first, later, last = [], [], []
    for path in files:
        found = re.fullmatch(r"memorise_(\d+)_(\d+)", path.stem)
        if not found:
            first.append(path)
        elif int(found[2]) == max(steps[found[1]]):
            later.append(path)
        elif int(found[2]) in KEPT_STEPS:
            last.append(path)
    return [*first, *later, *last]


def gather(options: argparse.Namespace, work: Path, about: dict[str, Any]) -> None:
    """Everything so far into the few files of the output folder; never raises."""
    said: list[str] = []
    try:
        archive(options.out / "judge_weights.tar", chosen(work, "safetensors"), said)
        archive(options.out / "judge_samples.tar", chosen(work, "npz"), said)
    except Exception:
        said.append(traceback.format_exc())
    jobs: dict[str, Any] = {}
    for name in ORDER:
        try:
            if (work / f"{name}.json").exists():
                jobs[name] = json.loads((work / f"{name}.json").read_text())
        except Exception:
            said.append(traceback.format_exc())
    try:
        whole = json.dumps({"about": about | {"said": said}, "jobs": jobs})
        write_whole(options.out / "judge_search.json", lambda part: part.write_text(whole + "\n"))
        logs = "".join(f"=== {path.stem}\n{path.read_text(errors='replace')}\n" for path in sorted(work.glob("*.log")))
        write_whole(options.out / "judge_search.log", lambda part: part.write_text(logs))
    except Exception:
        traceback.print_exc()


def conduct(options: argparse.Namespace, work: Path) -> int:
    """Run all jobs, gather what they find, end in time."""
    began = time.time()
    until = began + options.seconds - GRACE
    waiting, running, done = [name for name in ORDER if name in options.only], [], []
    places = 2 if options.smoke else PLACES
    about: dict[str, Any] = {"seconds": options.seconds, "device": options.device, "jobs": {}}
    gathered = time.time()
    while (waiting or running) and time.time() < until + 0.6 * GRACE:
        for name in list(waiting):
            late = time.time() > began + AT_LATEST.get(name, 1.0) * options.seconds and not options.smoke
            if len(running) < places or late:
                waiting.remove(name)
                try:
                    running.append(start(name, options, work, until, options.eager))
                except Exception:
                    about["jobs"][name] = traceback.format_exc()
        for job in list(running):
            code = job.process.poll()
            if code is None:
                continue
            running.remove(job)
            job.log.close()
            done.append(job.name)
            seconds = time.time() - job.started
            about["jobs"].setdefault(job.name, []).append({"code": code, "eager": job.eager, "seconds": seconds})
            print(f"{job.name}: ended with {code} after {seconds:.0f} s, {until - time.time():.0f} s left", flush=True)
            if code and not job.eager and until - time.time() > (20 if options.smoke else 60):
                running.append(start(job.name, options, work, until, True))
        if time.time() - gathered > GATHER:
            gather(options, work, about)
            gathered = time.time()
        time.sleep(0.3)
    for job in running:
        about["jobs"].setdefault(job.name, []).append({"code": "stopped at the end", "eager": job.eager})
        job.process.terminate()
    for job in running:
        try:
            job.process.wait(1.5)
        except subprocess.TimeoutExpired:
            job.process.kill()
    about["seconds in all"] = time.time() - began
    gather(options, work, about)
    failed = []
    for name in options.only:
        path = work / f"{name}.json"
        found = json.loads(path.read_text()) if path.exists() else {"status": "nothing written", "stages": {}}
        rows = found["stages"].values()
        good = sum(row.get("status") == "done" for row in rows)
        bad = [f"{key}: {row.get('status')}" for key, row in found["stages"].items() if row.get("status") != "done"]
        print(f"{name}: {found['status']}; {good} of {len(rows)} stages done; {'; '.join(bad)[:600]}", flush=True)
        if found.get("errors") or "nothing" in found["status"]:
            failed.append(name)
    for path in sorted(options.out.iterdir()):
        print(f"{path.name}: {path.stat().st_size:,} bytes", flush=True)
    print(f"{time.time() - began:.0f} s in all; errors in: {failed or 'none'}", flush=True)
    return int(bool(failed))


def main(arguments: Sequence[str] | None = None) -> int:
    """All jobs, or in a process of its own one of them."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=Path("judge_out"), help="folder for what is found")
    parser.add_argument("--work", type=Path, help="folder for the jobs' files; by default a temporary one")
    parser.add_argument("--seconds", type=float, default=480.0, help="for everything")
    parser.add_argument("--judge-data", default="", help="digits_judge_4k.npz, where it is not found by itself")
    parser.add_argument("--only", nargs="+", choices=ORDER, default=list(ORDER), help="these jobs")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, to see whether everything runs")
    parser.add_argument("--eager", action="store_true", help="without CUDA graphs")
    parser.add_argument("--job", choices=ORDER, help=argparse.SUPPRESS)
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.job:
        sys.path[:0] = [str(HERE), str(HERE.parents[1])]
        import judge_jobs
        import torch

        torch.set_num_threads(1)
        sizes = judge_jobs.SMOKE if options.smoke else judge_jobs.Sizes()
        job = judge_jobs.Job(
            options.job, torch.device(options.device), sizes, options.work, options.judge_data, options.until,
            options.eager,
        )  # fmt: skip
        return judge_jobs.carry_out_job(job)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.work:
        options.work.mkdir(parents=True, exist_ok=True)
        return conduct(options, options.work)
    with tempfile.TemporaryDirectory(prefix="judge_search_") as work:
        return conduct(options, Path(work))


if __name__ == "__main__":
    sys.exit(main())

"""How far `latency` is off: measure, predict, run, several times over, by the wall's clock and by the processor's.

OMP_NUM_THREADS=1 python tests/benchmarks/latency_error.py --rounds 5
(aim: a median error of at most 10 % on an idle machine; it prints the load that it had)
"""

import argparse
import os
import statistics
import time

from lessons_src import weights
from lessons_src.latency import Plan, measure

PLANS = (
    Plan("DDIM", 50),
    Plan("DDIM", 20, w=2.0, batch=16),
    Plan("UniPC-2", 10, w=2.0, batch=16),
    Plan("DPM-Solver++(2M)", 10, batch=64),
    Plan("Heun", 10, batch=10),
    Plan("DDPM", 200),
    Plan("PNDM", 12, w=3.0, batch=4),
)


def main() -> None:
    """Print a line a plan, and what is the middle of all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    net, _ = weights.load("digits")
    for clock in (time.perf_counter, time.process_time):
        checks = {plan: [] for plan in PLANS}
        for _ in range(rounds):
            speed = measure(net, clock=clock)
            for plan, found in checks.items():
                found.append(speed.check(plan, runs=3))
        print(f"{clock.__name__}, load {', '.join(f'{load:.1f}' for load in os.getloadavg())}")
        for plan, found in checks.items():
            errors = sorted(100 * check.error for check in found)
            print(
                f"  {plan.solver:18} {plan.steps:3} steps, w = {plan.w:g}, batch {plan.batch:2}: "
                f"{found[0].predicted.calls:3} calls, {1000 * found[0].predicted.seconds:6.1f} ms; "
                f"error {statistics.median(errors):+5.1f} % ({errors[0]:+.1f} to {errors[-1]:+.1f}); "
                f"promise kept {100 * statistics.fmean(check.kept for check in found):3.0f} %"
            )
        every = [check for found in checks.values() for check in found]
        print(
            f"  all {len(every)}: median error {100 * statistics.median(abs(check.error) for check in every):.1f} %, "
            f"promise kept {100 * statistics.fmean(check.kept for check in every):.0f} %"
        )


if __name__ == "__main__":
    main()

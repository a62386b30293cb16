"""Costs are counted, and a prediction is right wherever time is what it is said to be: here a clock that we turn."""

import math
from types import SimpleNamespace

import pytest
import torch

from lessons_src import weights
from lessons_src.guidance import classifier_free
from lessons_src.latency import Check, Estimate, Plan, Speed, calls, cost_table, measure, rehearse, six_passes
from lessons_src.samplers import ddim, sample
from lessons_src.schedules import linear, time_grid
from lessons_src.solvers import SOLVERS


class Machine:
    """A clock, and a network of points on it that takes two seconds and one more for every sample."""

    schedule = linear()
    body = SimpleNamespace(event=(2,))
    signal = torch.zeros(1)

    def __init__(self):
        self.now, self.slowness, self.slow_calls = 0.0, 1.0, set()
        self.sizes = []

    def clock(self):
        return self.now

    def __call__(self, x, t, condition=None):
        self.now += (100 if len(self.sizes) in self.slow_calls else 2 + len(x)) * self.slowness
        self.sizes.append(len(x))
        return x


def test_the_table_of_costs():
    """As in the documents' tables of steps, without and with guidance."""
    table = cost_table(students=(1, 2, 8))
    assert [(row.calls, row.guided, row.speed_up) for row in table] == [
        (1000, 2000, 1.0),
        (50, 100, 20.0),
        (20, 40, 50.0),
        (1, 1, 1000.0),
        (2, 2, 500.0),
        (8, 8, 125.0),
    ]


def test_six_passes_are_two_orders_of_magnitude_below_a_thousand():
    few, ratio = six_passes()
    assert few == 6
    assert ratio == pytest.approx(166.66666666666666, abs=1e-12)
    assert round(math.log10(ratio)) == 2
    assert calls(Plan("DDPM", 1000)) / calls(Plan("DDIM", 3)) == pytest.approx(333.3333333333333, abs=1e-12)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("steps", [4, 11])
def test_calls_are_those_of_the_solver_and_guidance_doubles_them(name, steps):
    assert calls(Plan(name, steps)) == SOLVERS[name].nfe(steps)
    assert calls(Plan(name, steps, w=0.0)) == SOLVERS[name].nfe(steps)
    assert calls(Plan(name, steps, w=3.0)) == 2 * SOLVERS[name].nfe(steps)


def test_a_long_chain_is_counted_too():
    assert calls(Plan("DDIM", 1500)) == 1500


def test_a_plan_draws_what_its_sampler_draws():
    net, _ = weights.load("points")
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    expected = sample(ddim(classifier_free(net, 0, 2.0), x, net.schedule, time_grid(net.schedule, 6)))
    assert torch.equal(Plan("DDIM", 6, w=2.0, batch=5).run(net, x, net.schedule), expected)


def test_a_rehearsal_has_the_loop_and_not_the_network():
    count, seconds = rehearse(Plan("Heun", 10, w=2.0), torch.zeros(1, 2), linear())
    assert count == 38
    assert 0 < seconds < 10


@pytest.mark.parametrize(
    ("plan", "count", "seconds"),
    [
        (Plan("DDIM", 20), 20, 60),
        (Plan("DDIM", 20, w=2.0, batch=4), 40, 240),
        (Plan("Heun", 10, batch=3), 19, 95),  # a batch in between
        (Plan("PNDM", 5, w=5.0, batch=8), 28, 280),
    ],
    ids=str,
)
def test_where_time_is_linear_the_prediction_is_right(plan, count, seconds):
    machine = Machine()
    check = measure(machine, batches=(1, 4, 8), clock=machine.clock).check(plan)
    assert check.predicted == pytest.approx((count, seconds, 1.1 * seconds)), "and a tenth is promised on top"
    assert check.taken == [seconds] * 5
    assert (check.error, check.kept) == (0, 1)


def test_what_the_loop_takes_is_added():
    """Here reading the clock takes half a second: a turn of one evaluation reads it three times, a run twice."""
    machine = Machine()

    def clock():
        machine.now += 0.5
        return machine.now

    check = measure(machine, batches=(1,), least=0, clock=clock).check(Plan("DDIM", 10))
    assert check.predicted.seconds == 10 * 4 + 0.5
    assert check.taken == [10 * 3 + 0.5] * 5


def test_a_machine_that_has_become_slower_is_found_out():
    machine = Machine()
    speed = measure(machine, clock=machine.clock)
    machine.slowness = 1.5
    check = speed.check(Plan("DDIM", 10))
    assert (check.error, check.kept) == (pytest.approx(0.5), 0)


def test_first_evaluations_of_a_turn_do_not_count():
    machine = Machine()
    machine.slow_calls = {call for call in range(100) if call % 3 < 2}
    assert measure(machine, batches=(1,), turns=4, least=0, clock=machine.clock).timed == {1: [3.0] * 4}
    assert max(measure(machine, batches=(1,), turns=4, least=0, warm_up=1, clock=machine.clock).timed[1]) == 100


def test_a_turn_is_long_enough_and_counts_as_its_mean():
    machine = Machine()
    machine.slow_calls = {2}
    speed = measure(machine, batches=(1,), turns=2, least=112, warm_up=0, clock=machine.clock)
    assert speed.timed == {1: [(3 + 3 + 100 + 3 + 3) / 5, 3.0]}
    assert len(machine.sizes) == 5 + 38


def test_one_slow_turn_moves_the_promise_and_not_the_prediction():
    machine = Machine()
    machine.slow_calls = {2}
    estimate = measure(machine, batches=(1,), least=0, clock=machine.clock).predict(Plan("DDIM", 10))
    assert estimate.seconds == 30
    assert 110 < estimate.promise <= 1100


def test_a_run_between_prediction_and_promise_keeps_the_promise():
    check = Check(Estimate(1, 1.0, 2.0), [0.5, 1.5, 2.0, 2.5])
    assert (check.kept, check.error) == (0.75, 0.75)


def test_batch_sizes_take_turns():
    machine = Machine()
    measure(machine, batches=(1, 8), turns=2, least=0, warm_up=1, clock=machine.clock)
    assert machine.sizes == [1, 1, 8, 8, 1, 1, 8, 8]


def test_seconds_of_a_batch():
    speed = Speed(Machine(), {1: [1.0, 2.0, 9.0], 5: [10.0]}, float)
    assert speed.seconds(1) == 2
    assert speed.seconds(1, 0.0) == 1
    assert speed.seconds(4) == 8
    assert speed.seconds(5) == 10
    for batch in (0, 6):
        with pytest.raises(ValueError, match=rf"batch is {batch}; expected a whole number from 1 to 5"):
            speed.seconds(batch)


def test_a_real_network_is_measured():
    net, _ = weights.load("points")
    check = measure(net, batches=(1, 2), turns=1, least=0).check(Plan("DDIM", 5, batch=2), runs=2)
    assert check.predicted.calls == 5
    assert 0 < 1.1 * check.predicted.seconds <= 1.0001 * check.predicted.promise
    assert len(check.taken) == 2
    assert -1 < check.error < 100


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Plan("Euler", 10), "solver is 'Euler'"),
        (lambda: Plan("DDIM", 0), "steps is 0"),
        (lambda: Plan("DDIM", 10, math.nan), "w is nan"),
        (lambda: Plan("DDIM", 10, batch=0), "batch is 0"),
        (lambda: measure(Machine(), batches=()), "batches is ()"),
        (lambda: measure(Machine(), batches=(0,)), "batches is 0"),
        (lambda: measure(Machine(), turns=0), "turns is 0"),
        (lambda: measure(Machine(), least=-1), "least is -1"),
        (lambda: measure(Machine(), warm_up=-1), "warm_up is -1"),
        (lambda: Speed(Machine(), {1: [1.0]}, float).check(Plan("DDIM", 2), runs=0), "runs is 0"),
        (lambda: cost_table(students=(0,)), "steps is 0"),
        (lambda: measure(Machine(), batches=4), "batches is 4; expected one batch size or more"),
        (
            lambda: Speed(Machine(), {1: [1.0]}, float).seconds(1, 95),
            "quantile is 95; expected a finite number in [0, 1]",
        ),
        (lambda: Speed(Machine(), {1: [1.0]}, float).predict("DDIM"), "plan is 'DDIM'; expected a Plan"),
        (lambda: Speed(Machine(), {1: [1.0]}, float).check("DDIM"), "plan is 'DDIM'; expected a Plan"),
        (lambda: rehearse("DDIM", torch.zeros(1, 1), linear()), "plan is 'DDIM'; expected a Plan"),
        (lambda: calls("DDIM"), "plan is 'DDIM'; expected a Plan"),
    ],
)
def test_bad_input_is_refused(make, said):
    with pytest.raises((TypeError, ValueError)) as error:
        make()
    assert said in str(error.value)

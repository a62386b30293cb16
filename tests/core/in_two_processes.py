"""Run under torchrun: `training.main`, whose run each process then repeats from its checkpoint of step 2."""

import copy
import sys

import torch
from torch import distributed

from lessons_src import training

TRAIN = training.train


def train_twice(trainer, report, report_every, checkpoint, checkpoint_every):
    """Train; then train other weights from the checkpoint on; write both outcomes, a file for each process."""
    other = copy.deepcopy(trainer.net)
    for parameter in other.parameters():
        parameter.data += 1
    resumed = training.Trainer(other, trainer.loss, trainer.batches, trainer.recipe, precision=trainer.precision)
    save = trainer.save
    trainer.save = lambda path: save(f"{path}.{trainer.step_count}")
    net = TRAIN(trainer, report, report_every, checkpoint, checkpoint_every)
    distributed.barrier()  # until the file is there for all
    resumed.load(f"{checkpoint}.2")
    for _ in resumed.run():
        pass
    timing = training.time_precisions(trainer.net, trainer.loss, trainer.batches, trainer.recipe, steps=1)
    outcome = {"straight": trainer.net.state_dict(), "resumed": resumed.net.state_dict(), "timing": timing}
    torch.save(outcome, f"{checkpoint}.of{trainer.rank}")
    return net


if __name__ == "__main__":
    torch.set_num_threads(1)
    training.train = train_twice
    sys.exit(training.main())

"""A run that was killed, stopped or interrupted anywhere ends with exactly the weights and losses of any other run."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest
import torch
from toy_training import MakeTrainer, checkpoint, log, same_weights, train

from avsr.disk import lock
from avsr.errors import InputError
from avsr.train import loop
from avsr.train.loop import CHECKPOINT, WEIGHTS
from avsr.train.machine import Machine
from avsr.train.stopping import SIGNALS
from avsr.train.tracking import LOG_FILE, Report, StageNote, StageProgress

EAGER = Machine(checkpoint_every_s=0.0)
EVERYTHING = {
    "epochs": 2,
    "validate_every": 2,
    "ema_decay": 0.8,
    "average_last": 2,
    "patience": 5,
    "accumulate": 2,
    "alignment_weight": 0.1,
    "augment": {"join_share": 0.5, "lip_swap_share": 0.5, "lip_shift_px": 2.0, "drop_audio_share": 0.3},
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Bits depend on the number of threads, and the process that is killed has one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class LostMachineError(Exception):
    """Stands for a kill."""


def test_a_run_that_is_lost_after_every_single_step_ends_with_the_same_weights(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    make_trainer(tmp_path / "whole", "fusion", **EVERYTHING).run()
    killed = tmp_path / "killed"
    num_runs = 0
    while not (killed / WEIGHTS).exists():
        num_runs += 1
        taken: set[tuple[int, int]] = set()

        def die_in_the_second_step(report: Report, taken: set[tuple[int, int]] = taken) -> None:
            if isinstance(report, StageProgress):
                taken.add((report.epoch, report.step))
            if len(taken) == 2:
                raise LostMachineError

        torch.rand(num_runs)
        try:
            make_trainer(killed, "fusion", EAGER, die_in_the_second_step, **EVERYTHING).run()
        except LostMachineError:
            assert not (killed / WEIGHTS).exists()
    assert num_runs == sum("step" in line for line in log(killed))
    assert log(killed) == log(tmp_path / "whole")
    assert same_weights(killed, tmp_path / "whole")


@pytest.mark.timeout(300)  # a busy machine takes long to import PyTorch
def test_a_process_killed_in_the_middle_of_an_epoch_is_resumed_exactly(
    make_trainer: MakeTrainer, pack: Path, tmp_path: Path, readied: ForkServerContext
) -> None:
    settings = {"epochs": 5, "batch_size": 2}
    killed = tmp_path / "killed"
    process = readied.Process(target=train, args=(pack, [(str(killed), "audio", settings)]))
    process.start()
    try:
        while process.is_alive():
            if (killed / LOG_FILE).exists() and (killed / LOG_FILE).read_bytes().count(b"\n") >= 7:
                break
            time.sleep(0.002)
    finally:
        process.kill()
        process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (killed / WEIGHTS).exists()
    assert checkpoint(killed)["standing"]["total_steps"] >= 5

    make_trainer(killed, "audio", **settings).run()
    make_trainer(tmp_path / "whole", "audio", **settings).run()
    assert log(killed) == log(tmp_path / "whole")
    assert same_weights(killed, tmp_path / "whole")


@pytest.mark.parametrize("number", SIGNALS)
def test_a_run_that_is_told_to_stop_finishes_its_step_and_keeps_it(
    make_trainer: MakeTrainer, tmp_path: Path, number: signal.Signals
) -> None:
    before = signal.getsignal(number)

    def stop_after_a_step(report: Report) -> None:
        if isinstance(report, StageProgress):
            os.kill(os.getpid(), number)

    with pytest.raises(KeyboardInterrupt):
        make_trainer(tmp_path, "audio", None, stop_after_a_step, epochs=1).run()
    assert signal.getsignal(number) is before
    assert checkpoint(tmp_path)["standing"]["total_steps"] == 1
    make_trainer(tmp_path, "audio", epochs=1).run()
    make_trainer(tmp_path / "whole", "audio", epochs=1).run()
    assert same_weights(tmp_path, tmp_path / "whole")


def test_a_stop_request_after_the_last_step_is_not_forgotten(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    def stop_at_the_end(report: Report) -> None:
        if isinstance(report, StageNote) and report.text.startswith("epoch 1"):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        make_trainer(tmp_path, "audio", None, stop_at_the_end, epochs=1).run()
    assert (tmp_path / WEIGHTS).exists()  # the stage is done; the next one would not be begun


def test_a_second_ctrl_c_interrupts_at_once(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    def stop_twice(report: Report) -> None:
        if isinstance(report, StageProgress):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        make_trainer(tmp_path, "audio", None, stop_twice, epochs=1).run()
    assert not (tmp_path / CHECKPOINT).exists()


def test_two_runs_never_train_in_one_directory(
    make_trainer: MakeTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "STOP_PATIENCE_S", 0.0)
    with lock(tmp_path), pytest.raises(InputError, match="another process is writing it"):
        make_trainer(tmp_path, "audio").run()

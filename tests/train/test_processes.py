"""Two processes that torchrun starts learn what one learns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import toy_training
from toy_training import MakeTrainer, epochs, log, weights

from avsr.errors import InputError
from avsr.train.machine import open_machine
from avsr.train.processes import Processes

AUDIO = {"epochs": 2, "batch_size": 7, "dropout": 0.0, "ema_decay": 0.5, "average_last": 2}
UNEVEN = {"epochs": 1, "batch_size": 3, "accumulate": 2, "augment": {"drop_video_share": 0.4, "lip_swap_share": 0.5}}


DIE_ONCE = """
import os, signal, threading, time
from pathlib import Path
import toy_training

def die(checkpoint: Path) -> None:
    while not checkpoint.exists():
        time.sleep(0.01)
    Path("died").touch()
    os.kill(os.getpid(), signal.SIGKILL)

if (os.environ["RANK"], os.environ["TORCHELASTIC_RESTART_COUNT"]) == ("1", "0"):
    threading.Thread(target=die, args=(Path("killed") / toy_training.CHECKPOINT,), daemon=True).start()
toy_training.main()
"""


def run_in_two_processes(script: Path | str, pack: Path, jobs: list[list[object]], cwd: Path, *options: str) -> None:
    tests = Path(toy_training.__file__).parent
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tests), str(tests.parent)]),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *options]
    subprocess.run([*command, script, pack, json.dumps(jobs)], env=environment, check=True, timeout=280, cwd=cwd)


@pytest.mark.timeout(300)  # processes import PyTorch anew
def test_torchrun_goes_on_after_one_process_was_killed(make_trainer: MakeTrainer, pack: Path, tmp_path: Path) -> None:
    script = tmp_path / "die_once.py"
    script.write_text(DIE_ONCE)
    settings = AUDIO | {"epochs": 8}
    run_in_two_processes(script, pack, [["killed", "audio", settings]], tmp_path, "--max-restarts", "1")
    assert (tmp_path / "died").exists()
    make_trainer(tmp_path / "whole", "audio", **settings).run()
    ours, theirs = log(tmp_path / "whole"), log(tmp_path / "killed")
    assert [line.get("step") for line in ours] == [line.get("step") for line in theirs]
    assert [line["loss"] for line in theirs] == pytest.approx([line["loss"] for line in ours], rel=5e-3)


@pytest.mark.timeout(300)  # processes import PyTorch anew
def test_two_processes_have_the_losses_and_weights_of_one(
    make_trainer: MakeTrainer, pack: Path, tmp_path: Path
) -> None:
    # The second job has more parts than examples, and parts without lips.
    jobs: list[list[object]] = [[str(tmp_path / "two"), "audio", AUDIO], [str(tmp_path / "uneven"), "fusion", UNEVEN]]
    run_in_two_processes(toy_training.__file__, pack, jobs, tmp_path)

    make_trainer(tmp_path / "one", "audio", **AUDIO).run()
    ours, theirs = log(tmp_path / "one"), log(tmp_path / "two")
    assert [line.get("step") for line in ours] == [line.get("step") for line in theirs]
    assert [line["loss"] for line in theirs] == pytest.approx([line["loss"] for line in ours], rel=1e-3)
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert all(torch.allclose(two[name], value, atol=2e-3) for name, value in one.items())

    (last,) = epochs(tmp_path / "uneven")
    assert 0 < last["loss"] < 200
    assert all(torch.isfinite(value).all() for value in weights(tmp_path / "uneven").values())


def test_a_process_alone_has_nobody_to_ask() -> None:
    alone = Processes()
    values = torch.tensor([1.0, 2.0])
    assert alone.is_first
    assert torch.equal(alone.sum(values), values)
    alone.average_in_place([values])
    assert torch.equal(values, torch.tensor([1.0, 2.0]))

    def fail() -> None:
        raise InputError("no")

    with pytest.raises(InputError, match="no"):
        alone.share(fail)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_auto_is_the_processor_and_cuda_an_error() -> None:
    with open_machine("auto") as machine:
        assert (machine.device.type, machine.workers, machine.processes.count) == ("cpu", 0, 1)
    with pytest.raises(Exception, match="no CUDA device") as raised, open_machine("cuda"):
        pass
    assert type(raised.value).__name__ == "DeviceError"

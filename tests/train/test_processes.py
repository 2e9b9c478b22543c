"""Two processes started by torchrun learn exactly what a single one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import toy_training
from toy_training import MakeTrainer, epochs, log, weights

from avsr.errors import InputError
from avsr.train.machine import open_machine
from avsr.train.processes import Processes, join_processes

AUDIO = {"epochs": 2, "batch_size": 7, "dropout": 0.0, "ema_decay": 0.5, "average_last": 2}
UNEVEN = {"epochs": 1, "batch_size": 3, "accumulate": 2, "augment": {"drop_video_share": 0.4, "lip_swap_share": 0.5}}


DIE_ONCE = """
import json, os, signal, sys
from pathlib import Path
from toy_training import train
from avsr.train.loop import Trainer

take = Trainer._take

def die_in_the_third_step(self, *rest):
    if self._state.total_steps == 2:
        Path("died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    take(self, *rest)

if (os.environ["RANK"], os.environ["TORCHELASTIC_RESTART_COUNT"]) == ("1", "0"):
    Trainer._take = die_in_the_third_step
train(Path(sys.argv[1]), json.loads(sys.argv[2]))
"""


@pytest.mark.timeout(300)  # processes import PyTorch anew
def test_two_processes_of_which_one_was_killed_have_the_losses_and_weights_of_one(
    make_trainer: MakeTrainer, pack: Path, tmp_path: Path
) -> None:
    script, tests = tmp_path / "die_once.py", Path(toy_training.__file__).parent
    script.write_text(DIE_ONCE)
    # The second job has more parts than examples, and parts without lips.
    jobs = [["two", "audio", AUDIO], ["uneven", "fusion", UNEVEN]]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {"PYTHONPATH": os.pathsep.join([str(tests), str(tests.parent)]), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [*command, "--max-restarts", "1", script, pack, json.dumps(jobs)],
        env=os.environ | environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=280,
    )
    assert (tmp_path / "died").exists()
    assert ran.stdout.count("resumed after 0 epochs") + ran.stdout.count("resumed after 1 epochs") == 1

    make_trainer(tmp_path / "one", "audio", **AUDIO).run()
    ours, theirs = log(tmp_path / "one"), log(tmp_path / "two")
    assert [line.get("step") for line in ours] == [line.get("step") for line in theirs]
    assert [line["loss"] for line in theirs] == pytest.approx([line["loss"] for line in ours], rel=1e-3)
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert all(torch.allclose(two[name], value, atol=2e-3) for name, value in one.items())

    (last,) = epochs(tmp_path / "uneven")
    assert 0 < last["loss"] < 200
    assert all(torch.isfinite(value).all() for value in weights(tmp_path / "uneven").values())


def test_a_single_process_does_not_communicate() -> None:
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


def test_a_process_that_fails_alone_waits_for_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """NCCL's ``shutdown`` returns when every process calls it, and those that wait for a sum never do."""
    waited: list[bool] = []
    monkeypatch.setattr(dist.ProcessGroup, "shutdown", lambda group: waited.append(True))
    for name, text in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}.items():
        monkeypatch.setenv(name, text)
    with pytest.raises(InputError), join_processes("gloo"):
        raise InputError("a clip is damaged")
    assert not waited and not dist.is_initialized()
    with join_processes("gloo"):
        pass
    assert waited == [True] and not dist.is_initialized()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_auto_is_the_processor_and_cuda_an_error() -> None:
    with open_machine("auto") as machine:
        assert (machine.device.type, machine.workers, machine.processes.count) == ("cpu", 0, 1)
    with pytest.raises(Exception, match="no CUDA device") as raised, open_machine("cuda"):
        pass
    assert type(raised.value).__name__ == "DeviceError"

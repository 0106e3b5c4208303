"""Several processes: the same gradients, weights and scores as one; a model in pieces; what launchers leave behind."""

from __future__ import annotations

from collections.abc import Iterator

import lightning
import pytest
import torch
from lightning.pytorch.plugins.environments import LightningEnvironment, SLURMEnvironment, TorchElasticEnvironment
from lightning.pytorch.utilities import rank_zero_only

from seg_models import train
from seg_models.checkpoints.trained import load_task
from seg_models.training.recipe import RecipeError, read_recipe
from seg_models.training.resuming import RunCheckpoints
from seg_models.training.sharding import units
from seg_models.training.trainer import make_trainer
from test.seg_models.tiny_models import tiny_model
from test.seg_models.training.tiny_run import lines, losses, python, scores, weights, write_recipe

# Sums of float32 gradients in another order; AdamW divides by the root of squared gradients, which magnifies rounding where
# they are small.
CLOSE = {"rtol": 1e-3, "atol": 1e-4}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A run of four steps of eight images by one process; five images to validate on, which nothing divides."""
    folder = tmp_path_factory.mktemp("distributed")
    recipe = write_recipe(folder, images=19, validation=5, keep_checkpoints=-1)
    assert train.main(["--config", str(recipe), "--out", str(folder / "alone")]) == 0
    return {"recipe": recipe, "out": folder / "alone"}


def assert_the_same(out, alone, from_step: int = 0) -> None:
    """Losses, scores and weights of a run are those of one process alone, and what it leaves is there once."""
    expected = {step: value for step, value in losses(alone["out"]).items() if step > from_step}
    assert losses(out) == pytest.approx(expected, rel=1e-4)
    # Counts of pixels are whole numbers; an image counted twice or left out would show. A pixel in doubt may tip over.
    assert scores(out) == pytest.approx(
        {step: value for step, value in scores(alone["out"]).items() if step > from_step}, abs=2e-3
    )
    assert [line["step"] for line in lines(out)].count(4) == 2  # a line of the step, one of the validation
    expected = weights(alone["out"])
    for name, value in weights(out).items():
        torch.testing.assert_close(value, expected[name], msg=name, **CLOSE)


def test_two_processes_under_torchrun_are_one(alone, tmp_path):
    arguments = ["--config", str(alone["recipe"]), "--out", str(tmp_path / "out"), "trainer.devices=2"]
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "seg_models.train"]
    done = python(*launcher, *arguments, "data.batch_size=4")
    assert done.returncode == 0, done.stderr[-3000:]
    assert_the_same(tmp_path / "out", alone)
    assert load_task(tmp_path / "out/best.ckpt")


def test_four_processes_that_the_command_starts_itself_are_one_also_with_accumulation(alone, tmp_path):
    arguments = ["--config", str(alone["recipe"]), "--out", str(tmp_path / "out"), "trainer.devices=4"]
    done = python("-m", "seg_models.train", *arguments, "data.batch_size=1", "trainer.accumulate=2")
    assert done.returncode == 0, done.stderr[-3000:]
    assert_the_same(tmp_path / "out", alone)


def test_a_model_in_pieces_trains_as_a_whole_one_and_goes_on_from_its_checkpoint_and_back(alone, tmp_path):
    """FSDP on two gloo processes: goes on from step 2 of a lone process, whose optimiser's groups are in another order than the
    model's parameters, to step 3; a lone process goes on from there."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "last.ckpt").write_bytes((alone["out"] / "step2.ckpt").read_bytes())
    arguments = ["--config", str(alone["recipe"]), "--out", str(out), "--resume"]
    pieces = ["trainer.strategy=fsdp", "trainer.devices=2", "data.batch_size=4", "optimizer.clip_grad_norm=100"]
    done = python("-m", "seg_models.train", *arguments, *pieces)
    assert done.returncode == 0, done.stderr[-3000:]
    assert_the_same(out, alone, from_step=2)
    in_pieces, whole = (torch.load(folder / "last.ckpt", weights_only=True) for folder in (out, alone["out"]))
    assert list(in_pieces["state_dict"]) == list(whole["state_dict"])
    assert in_pieces["loops"] == whole["loops"]
    (mine,), (other,) = in_pieces["optimizer_states"], whole["optimizer_states"]
    assert [group["params"] for group in mine["param_groups"]] == [group["params"] for group in other["param_groups"]]
    for number, values in other["state"].items():
        for name, value in values.items():
            torch.testing.assert_close(mine["state"][number][name], value, msg=f"{number} {name}", **CLOSE)
    assert train.main([*arguments, "schedule.steps=5"]) == 0
    assert losses(out).keys() == {3, 4, 5}


@pytest.mark.parametrize("name", ["linear", "segvit_shrunk", "segvit_pyramid", "superpixel_transformer"])
def test_units_are_parts_of_the_backbone_without_a_common_parameter(name):
    model = tiny_model(name)
    seen: set[int] = set()
    for unit in units(model):
        parameters = {id(parameter) for parameter in unit.parameters()}
        assert parameters
        assert not parameters & seen
        seen |= parameters
    assert seen <= {id(parameter) for parameter in model.backbone.parameters()}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU: pieces over NCCL in bfloat16")
def test_a_model_in_pieces_trains_on_a_gpu(alone, tmp_path):
    arguments = ["--config", str(alone["recipe"]), "--out", str(tmp_path / "out"), "trainer.strategy=fsdp"]
    assert train.main([*arguments, "trainer.accelerator=gpu", "trainer.precision=bf16-mixed"]) == 0
    assert losses(tmp_path / "out").keys() == {1, 2, 3, 4}
    assert load_task(tmp_path / "out/last.ckpt")


def test_averaged_weights_of_a_model_in_pieces_are_refused(alone, tmp_path, capsys):
    arguments = ["--config", str(alone["recipe"]), "--out", str(tmp_path / "out"), "trainer.strategy=fsdp"]
    assert train.main([*arguments, "optimizer.average_decay=0.9"]) == 2
    assert "fsdp does not average weights" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.fixture(autouse=True)
def _rank_stays() -> Iterator[None]:
    """A trainer that believes to be process 7 tells all of Lightning in this process so."""
    before = rank_zero_only.rank
    yield
    rank_zero_only.rank = before


SLURM = {
    "SLURM_JOB_ID": "81234",
    "SLURM_JOB_NAME": "train",
    "SLURM_NTASKS": "8",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_NNODES": "4",
    "SLURM_NODELIST": "gpu[03-06]",
    "SLURM_NODEID": "3",
    "SLURM_PROCID": "7",
    "SLURM_LOCALID": "1",
}


def test_slurms_variables_say_which_process_this_is_and_who_is_the_first(alone, tmp_path, monkeypatch):
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "")  # so that what Lightning sets is taken back at the end, also where nothing was set
        monkeypatch.delenv(name)
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    recipe = read_recipe(alone["recipe"], ["trainer.devices=2", "trainer.num_nodes=4"])
    trainer = make_trainer(recipe, tmp_path / "out", RunCheckpoints(), lightning.Callback())
    environment = trainer.strategy.cluster_environment
    assert isinstance(environment, SLURMEnvironment)
    assert not environment.auto_requeue  # Lightning would write checkpoints of its own, and submit the job again
    assert (trainer.world_size, trainer.global_rank, trainer.local_rank, trainer.node_rank) == (8, 7, 1, 3)
    assert (environment.main_address, environment.main_port) == ("gpu03", 15000 + 1234)
    wrong = read_recipe(alone["recipe"], ["trainer.devices=1", "trainer.num_nodes=4"])
    with pytest.raises(RecipeError, match=r"trainer: You set `devices=1` .* `--ntasks-per-node=2`"):
        make_trainer(wrong, tmp_path / "out", RunCheckpoints(), lightning.Callback())


def test_a_job_of_one_task_runs_under_slurm(alone, tmp_path):
    one = SLURM | {"SLURM_NTASKS": "1", "SLURM_NTASKS_PER_NODE": "1", "SLURM_NNODES": "1", "SLURM_NODEID": "0"}
    one |= {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODELIST": "localhost"}
    done = python(*("-m", "seg_models.train", "--config", str(alone["recipe"]), "--out", str(tmp_path / "out")), **one)
    assert done.returncode == 0, done.stderr[-3000:]
    assert losses(tmp_path / "out") == losses(alone["out"])


def test_torchruns_variables_are_understood_and_without_any_the_command_starts_processes_itself(
    alone, tmp_path, monkeypatch
):
    recipe = read_recipe(alone["recipe"], ["trainer.devices=2", "trainer.num_nodes=2"])
    for name in SLURM:
        monkeypatch.delenv(name, raising=False)
    own = make_trainer(recipe, tmp_path / "out", RunCheckpoints(), lightning.Callback()).strategy.cluster_environment
    assert isinstance(own, LightningEnvironment)
    rendezvous = {"MASTER_ADDR": "box0", "MASTER_PORT": "29500", "TORCHELASTIC_RUN_ID": "1"}
    ranks = {"RANK": "3", "LOCAL_RANK": "1", "GROUP_RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}
    for name, value in (rendezvous | ranks).items():
        monkeypatch.setenv(name, value)
    trainer = make_trainer(recipe, tmp_path / "out", RunCheckpoints(), lightning.Callback())
    assert isinstance(trainer.strategy.cluster_environment, TorchElasticEnvironment)
    assert (trainer.world_size, trainer.global_rank, trainer.node_rank) == (4, 3, 1)

"""Several processes at one job: the bytes of one, nothing published after a death, and one line for a mistake."""

import dataclasses
import functools
import os
import socket
import subprocess
import sys
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import jax
import numpy as np
import pytest
from process_examples import begin, with_devices

from ugejax.app import hosts, shards
from ugejax.app import protection as job_module
from ugejax.app.cli import main
from ugejax.app.cli import protect as protect_module
from ugejax.app.noise_files import NoiseFiles
from ugejax.app.shards import ImageShards

FILES = ("data.npz", "card.json", "manifest.csv")
OPTIMISED = [
    "--authorized", "frozen-backbone", "--epochs", "2", "--snapshots", "2", "--parametrisation", "sample-wise",
    "--perturbation-epochs", "3", "--surrogates", "mlp", "--transforms", "none",
]  # fmt: skip


def write_source(folder: Path) -> None:
    """49 grey images of three classes, which neither two nor three processes can share equally."""
    images = np.random.default_rng(0).integers(0, 256, (49, 8, 8, 1), np.uint8)
    np.savez(folder / "set.npz", data=images, targets=np.arange(49) % 3)


def command(folder: Path, name: str, *more: str, source: str = "set.npz") -> list[str]:
    return [
        "protect", str(folder / source), "--out", str(folder / name), "--key", str(folder / f"key-{name}"),
        "--seed", "0", "--network", "mlp", *more,
    ]  # fmt: skip


@pytest.fixture
def logs(tmp_path_factory) -> Path:
    """A folder in which processes say something."""
    return tmp_path_factory.mktemp("logs")


@dataclasses.dataclass
class Job:
    """Processes of one job, and the files in which they say something."""

    processes: list[ForkServerProcess]
    said: list[Path]

    def ends(self) -> list[tuple[int | None, str]]:
        """Exit code and standard error of each process."""
        try:
            for process in self.processes:
                process.join(timeout=300)
            return [
                (process.exitcode, file.read_text()) for process, file in zip(self.processes, self.said, strict=True)
            ]
        finally:
            for process in self.processes:
                process.kill()


def start(folder: Path, *commands: list[str], killed: int | None = None, slurm: bool = False) -> Job:
    """A job of as many processes, with two devices each.

    Args:
        folder: for the files in which they say something.
        commands: of each process, without what names the others.
        killed: which of them is killed in the middle of its work.
        slurm: whether the scheduler names the others.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = f"{free.getsockname()[1]}"
    job = Job([], [])
    for process, arguments in enumerate(commands):
        own = {"XLA_FLAGS": with_devices(2), "KILLED": "yes" if process == killed else ""}
        if slurm:
            joining = ["--distributed"]
            own |= {"SLURM_JOB_ID": "1", "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": f"{len(commands)}"}
            own |= {"SLURM_PROCID": f"{process}", "SLURM_LOCALID": f"{process}", "JAX_COORDINATOR_PORT": port}
        else:
            joining = [
                "--coordinator",
                f"127.0.0.1:{port}",
                "--processes",
                f"{len(commands)}",
                "--process",
                f"{process}",
            ]
        job.said.append(folder / f"{port}-{process}")
        job.processes.append(begin(one_of_several, [*arguments, *joining], said=job.said[-1], **own))
    return job


def assert_killed(job: Job, killed: int) -> None:
    """A process is killed, and the others end soon."""
    job.processes[killed].join(timeout=300)
    assert job.processes[killed].exitcode == -9
    since = time.monotonic()
    assert all(code for code, _ in job.ends())
    assert time.monotonic() - since < 40


def assert_same_bytes(one: Path, other: Path) -> None:
    for name in FILES:
        assert (one / name).read_bytes() == (other / name).read_bytes()


def test_three_processes_go_on_where_one_of_two_was_killed_and_end_with_the_bytes_of_one(tmp_path, logs):
    write_source(tmp_path)
    killed = start(logs, *[command(tmp_path, "job")] * 2, killed=1)
    assert main(command(tmp_path, "one")) == 0
    assert_killed(killed, 1)
    assert not (tmp_path / "job").exists()
    (work,) = (tmp_path / "key-job" / "runs").iterdir()
    missing = ImageShards(work / "released", (49, 8, 8, 1)).missing()
    assert missing[-1] == slice(28, 49)  # the first shard of the second half is there
    ended = start(logs, *[command(tmp_path, "job")] * 3).ends()
    assert [code for code, _ in ended] == [0, 0, 0]
    begun = [int(line) for _, said in ended for line in said.split()]
    assert 32 in begun  # of the last of the three
    assert all(any(gap.start <= image < gap.stop for gap in missing) for image in begun)
    assert_same_bytes(tmp_path / "job", tmp_path / "one")
    assert list(work.iterdir()) == []


def test_an_optimised_perturbation_goes_on_from_the_one_checkpoint_of_all(tmp_path, logs):
    write_source(tmp_path)
    job = [command(tmp_path, "job", *OPTIMISED)] * 2
    killed = start(logs, *job, killed=0)
    assert main(command(tmp_path, "one", *OPTIMISED)) == 0
    assert_killed(killed, 0)
    assert not (tmp_path / "job").exists()
    (work,) = (tmp_path / "key-job" / "runs").iterdir()
    steps = {name: sorted(path.name for path in (work / name).iterdir()) for name in ("trajectory", "noise")}
    assert steps == {"trajectory": ["0", "1"], "noise": ["1"]}
    assert [code for code, _ in start(logs, *job).ends()] == [0, 0]
    # Sums over a batch that is spread may differ in their last bit, and the noise steps by signs.
    images, alone = (np.load(tmp_path / name / "data.npz")["data"].astype(int) for name in ("job", "one"))
    assert (images != alone).mean() < 0.001


def test_what_one_process_cannot_read_ends_all_with_a_line(tmp_path, logs):
    write_source(tmp_path)
    commands = [command(tmp_path, "release", source=name) for name in ("set.npz", "unmounted.npz")]
    job = start(logs, *commands, slurm=True)
    (leader, said), (other, complaint) = job.ends()
    assert (leader, other) == (2, 2)
    line = f"{tmp_path}/unmounted.npz: no such file or folder"
    assert complaint.startswith(f"ugejax protect: {line}")
    assert said.startswith(f"ugejax protect: process 1 of 2: {line}")
    assert said.count("\n") == complaint.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["set.npz"]


def test_processes_with_different_settings_do_not_mix_their_images(tmp_path, monkeypatch, capsys):
    write_source(tmp_path)
    # Of what the leader tells the others, the name of the run alone is text.
    monkeypatch.setattr(protect_module, "from_leader", lambda make: "another" if isinstance(make(), str) else make())
    assert main(command(tmp_path, "release")) == 2
    assert capsys.readouterr().err.endswith("than process 0; give all the same command\n")
    assert not (tmp_path / "release").exists()


def test_without_a_cluster_the_others_have_to_be_named(tmp_path, capsys):
    write_source(tmp_path)
    alone = [sys.executable, "-m", "ugejax", *command(tmp_path, "release", "--distributed")]
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "OMPI", "KUBE"))}
    done = subprocess.run(alone, env=outside | {"JAX_PLATFORMS": "cpu"}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.endswith("name it by --coordinator, --processes and --process\n")
    assert done.stderr.count("\n") == 1
    for half in (
        ["--processes", "2"], ["--coordinator", "h:1"], ["--distributed", "--process", "0"],
        ["--coordinator", "h:1", "--processes", "2", "--process", "2"],
    ):  # fmt: skip
        assert main(command(tmp_path, "release", *half)) == 2
        assert capsys.readouterr().err.endswith(": needs --processes N, and --process I from 0 to N - 1\n")
    with pytest.raises(SystemExit):
        main(command(tmp_path, "release", "--coordinator", "h"))
    assert "'h' is no address; write HOST:PORT" in capsys.readouterr().err


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("n", [0, 1, 6, 50])
def test_shares_are_all_of_it_and_differ_by_one_at_most(n, count, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: count)
    parts = []
    for index in range(count):
        monkeypatch.setattr(jax, "process_index", lambda index=index: index)
        parts.append(range(n)[hosts.share(n)])
    assert [i for part in parts for i in part] == list(range(n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def one_of_several(arguments: list[str]) -> int:
    """One process of a job: in small pieces, with noise in files, and with its shards told on standard error."""
    hosts._HEARTBEAT_SECONDS = 8
    job_module._RESIDENT_BYTES = 0
    # Pieces of a process's share are small; an update takes all 49 images, as it does in one process.
    job_module.at_a_time = lambda shape, most: most if most == 49 else min(most, 4)
    protect_module.ImageShards = functools.partial(ImageShards, shard_bytes=4 * 64)
    write_shards, open_shard, take, opened = ImageShards.write, shards.synced, NoiseFiles.take, []

    def told(self, start, batches):
        print(start, file=sys.stderr)
        write_shards(self, start, batches)

    def die_at_the_second(path):
        opened.append(path)
        if len(opened) == 2:
            os.kill(os.getpid(), 9)
        return open_shard(path)

    def die_in_the_second_epoch(self, state, index):
        take(self, state, index)
        if int(state.step) == 2:
            os.kill(os.getpid(), 9)

    ImageShards.write = told
    if os.environ["KILLED"]:
        shards.synced = die_at_the_second
        NoiseFiles.take = die_in_the_second_epoch
    return main(arguments)

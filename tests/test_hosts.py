"""Several processes at one job: the bytes of one, nothing published after a death, and one line for a mistake."""

import functools
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from ugejax import hosts
from ugejax import protect as job_module
from ugejax.cli import main
from ugejax.cli import protect as protect_module
from ugejax.data import ImageShards, shards

FILES = ("data.npz", "card.json", "manifest.csv")


def source(folder: Path) -> Path:
    """49 grey images of three classes: more than one shard for each of four processes, and not the same number."""
    images = np.random.default_rng(0).integers(0, 256, (49, 8, 8, 1), np.uint8)
    np.savez(folder / "set.npz", data=images, targets=np.arange(49) % 3)
    return folder / "set.npz"


def command(folder: Path, name: str, *more: str) -> list[str]:
    return [
        "protect", str(folder / "set.npz"), "--out", str(folder / name), "--key", str(folder / f"key-{name}"),
        "--seed", "0", "--network", "mlp", *more,
    ]  # fmt: skip


def start(count: int, *commands: list[str], killed: str = "") -> list[subprocess.Popen]:
    """As many processes, with two devices each, by a command of their own or by the last."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    started = []
    for process in range(count):
        joining = ["--coordinator", address, "--processes", f"{count}", "--process", f"{process}"]
        started.append(
            subprocess.Popen(
                [sys.executable, __file__, *commands[min(process, len(commands) - 1)], *joining],
                env=environment | {"KILLED": killed if process == 1 else ""}, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
        )  # fmt: skip
    return started


def ends(processes: list[subprocess.Popen]) -> list[tuple[int, str]]:
    """Exit code and standard error of each."""
    try:
        return [(process.wait(), error) for process in processes for _, error in [process.communicate(timeout=120)]]
    finally:
        for process in processes:
            process.kill()


def same_bytes(one: Path, other: Path) -> bool:
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in FILES)


def test_two_processes_of_which_one_is_killed_and_four_that_go_on_end_with_the_bytes_of_one(tmp_path):
    source(tmp_path)
    job = start(2, command(tmp_path, "shared"), killed="second shard")
    assert main(command(tmp_path, "one")) == 0
    assert job[1].wait(timeout=120) == -9
    since = time.monotonic()
    ((survived, _), _) = ends(job)
    assert survived != 0
    assert time.monotonic() - since < 20
    assert not (tmp_path / "shared").exists()
    (work,) = (tmp_path / "key-shared" / "runs").iterdir()
    missing = ImageShards(work / "released", (49, 8, 8, 1)).missing()
    assert missing[-1] == slice(28, 49)  # of the killed one's half its first shard is there
    ended = ends(start(4, command(tmp_path, "shared")))
    assert [code for code, _ in ended] == [0, 0, 0, 0]
    begun = [int(line) for _, said in ended for line in said.split()]
    assert 36 in begun  # where the last of the four begins
    assert all(any(gap.start <= image < gap.stop for gap in missing) for image in begun)
    assert same_bytes(tmp_path / "shared", tmp_path / "one")
    assert list(work.iterdir()) == []


def test_what_one_process_cannot_read_ends_all_with_a_line(tmp_path):
    source(tmp_path)
    elsewhere = ["protect", str(tmp_path / "unmounted.npz"), *command(tmp_path, "release")[2:]]
    (leader, said), (other, complaint) = ends(start(2, command(tmp_path, "release"), elsewhere))
    assert (leader, other) == (2, 2)
    line = f"{tmp_path}/unmounted.npz: no such file or folder"
    assert complaint.startswith(f"ugejax protect: {line}")
    assert said.startswith(f"ugejax protect: process 1 of 2: {line}")
    assert said.count("\n") == complaint.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["set.npz"]


def test_without_a_cluster_the_others_have_to_be_named(tmp_path, capsys):
    source(tmp_path)
    environment = {name: value for name, value in os.environ.items() if "SLURM" not in name} | {"JAX_PLATFORMS": "cpu"}
    alone = [sys.executable, "-m", "ugejax", *command(tmp_path, "release", "--distributed")]
    done = subprocess.run(alone, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "name it by --coordinator, --processes and --process" in done.stderr
    assert done.stderr.count("\n") == 1
    for half in (["--processes", "2"], ["--coordinator", "h:1"], ["--distributed", "--process", "0"]):
        assert main(command(tmp_path, "release", *half)) == 2
    assert main(command(tmp_path, "release", "--coordinator", "h:1", "--processes", "2", "--process", "2")) == 2
    assert capsys.readouterr().err.count("--coordinator: needs --processes N, and --process I from 0 to N - 1\n") == 4


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


if __name__ == "__main__":
    hosts._HEARTBEAT_SECONDS = 5
    protect_module.ImageShards = functools.partial(ImageShards, shard_bytes=4 * 64)
    job_module.at_a_time = lambda shape, most: min(most, 4)
    write, written = shards.synced, []

    def die_at_the_second(path):
        written.append(path)
        if len(written) == 2:
            os.kill(os.getpid(), 9)
        return write(path)

    if os.environ["KILLED"]:
        shards.synced = die_at_the_second
    write_images = ImageShards.write

    def told(self, start, batches):
        print(start, file=sys.stderr)
        write_images(self, start, batches)

    ImageShards.write = told
    sys.exit(main(sys.argv[1:]))

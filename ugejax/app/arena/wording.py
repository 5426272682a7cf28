"""The words and figures of the leaderboard, which all its forms share."""

from typing import Any

from ugejax.app.arena.leaderboard import Cell, Cost, Leaderboard
from ugejax.app.duration import duration

COSTS = ("method", "PSNR (dB)", "SSIM", "largest change (of 255)", "largest L2 norm", "time to make")


def describe(board: Leaderboard, facts: dict[str, Any]) -> str:
    """What the figures are of."""
    if facts["eps"] is None:
        eps = "each method at its own budget"
    else:
        budget = f"{255 * facts['eps']:.4g}/255"
        eps = f"L-infinity budget {budget} of the methods bound in L-infinity, the others at their own"
    epochs = (
        "epochs: each network's own"
        if facts["epochs"] is None
        else f"epochs: {facts['epochs']}, more with augmentation"
    )
    return (
        f"Accuracy on {facts['n_test']} clean test images of hackers who train on {facts['n_train']} images of "
        f"{facts['dataset']} as each method releases them, under each countermeasure; lower is better protected. "
        f"Means over {', '.join(board.networks)} and {board.seeds} seed{'s' * (board.seeds > 1)}; {eps}; {epochs}."
    )


def notes(board: Leaderboard) -> list[str]:
    """What a reader has to know of the main table."""
    result = [
        "originals: the clean control, the same trainings on the originals",
        "share of clean: mean accuracy on the release over that on the originals",
    ]
    if any(line.kind == "authorized" for line in board.lines):
        result.append("authorized: the holder of uge's key, who fights nothing; here higher is better")
    if any(cell.best for line in board.lines for cell in line.cells):
        result.append("bold: the lowest of all methods")
    if not all(cell.complete for line in board.lines for cell in line.cells if cell.value is not None):
        result.append("†: some networks or seeds are missing; not compared")
    if board.mixed:
        result.append(
            "the rows were not all made by the same code on the same kind of device; an arena that names them makes "
            "those of other code again, of the releases that are there"
        )
    return result


def figure(cell: Cell) -> str:
    """A cell as text."""
    return "–" if cell.value is None else f"{cell.value:.3f}{'' if cell.complete else '†'}"


def cost_cells(cost: Cost) -> tuple[str, ...]:
    """A line of the second table, under `COSTS`."""
    psnr = "–" if cost.psnr is None else f"{cost.psnr:.1f}"
    seconds = "–" if cost.seconds is None else duration(cost.seconds)
    return cost.method, psnr, f"{cost.ssim:.3f}", f"{255 * cost.linf:.0f}", f"{cost.l2:.2f}", seconds

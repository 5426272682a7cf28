"""The notebook runs from top to bottom, and what its functions make is what the main job makes."""

import json
import re
from pathlib import Path

from matplotlib import pyplot as plt

PATH = Path(__file__).parent.parent / "docs" / "notebook.ipynb"
CELLS = json.loads(PATH.read_text())["cells"]
# What keeps it within seconds, given after the cell that is tagged for it.
SMALLER = "N_TRAIN, N_TEST, EPOCHS, NETWORK = 200, 50, 3, 'mlp'"
AFTERWARDS = """
import json

from ugejax.uge import Method
from ugejax.app.protection import Protection

protection = Protection.by(key, network, Method(eps=EPS, start="misaligned"))
again = protection.run(originals.images, originals.labels, Path(folder.name, "checkpoints"))
print(json.dumps({"rows": rows, "partner": learned, "same": bool((again == released).all())}))
"""


def test_it_runs_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    script = []
    for cell in CELLS:
        if cell["cell_type"] == "code":
            script.append("".join(cell["source"]))
            script += [SMALLER] * ("parameters" in cell["metadata"].get("tags", ()))
    assert SMALLER in script
    monkeypatch.chdir(tmp_path)
    plt.switch_backend("Agg")
    exec("\n".join([*script, AFTERWARDS]), {})
    plt.close("all")
    told = capsys.readouterr().out
    assert "FAIL" not in told
    found = json.loads(told.splitlines()[-1])
    authorized, hacker = found["rows"]
    assert (authorized["role"], hacker["role"]) == ("authorized", "hacker")
    assert authorized["retention"] == 1
    assert hacker["protected_accuracy"] < min(hacker["clean_accuracy"], found["partner"]) / 2
    assert found["same"]
    assert not list(tmp_path.iterdir())  # nor does it leave anything where it was started


def test_it_is_stored_as_it_was_written_and_its_links_lead_somewhere():
    # Outputs of another day would pass for those of the code beside them.
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in CELLS if "outputs" in cell)
    text = "".join("".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "markdown")
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    assert targets and all((PATH.parent / target).is_file() for target in targets)

"""Where do originals and release lie in the features of both sides' networks? A t-SNE picture, on CIFAR-10.

Command:
    python -m experiments.feature_space --data-dir TFDS_FOLDER --out runs/feature-space [--scale small]

Time: two trainings and two t-SNE; at the tiny scale (2,000 images) seven minutes on a CPU core shared with others.
Nothing is kept between two runs but the picture and the figures.

Expect: in the features of a hacker who trained on the release, released images fall into a
heap a class, and their originals into one without order; in the authorized network's the two lie on each other.
"""

import json

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from sklearn.metrics import silhouette_score

from experiments.tables import figure, table_head, table_row

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

from experiments.composed import load_job  # noqa: E402
from experiments.scales import parser  # noqa: E402
from ugejax.app.report.charts import laid_out  # noqa: E402
from ugejax.evaluation.candidates import authorized, hacker  # noqa: E402
from ugejax.evaluation.trial import Trial  # noqa: E402
from ugejax.training import decode  # noqa: E402
from ugejax.uge import Method  # noqa: E402

SHOWN = 1000


def main() -> int:
    arguments = parser(__doc__).parse_args()
    job, out = load_job(arguments, form="keyed-dither"), arguments.out
    images, labels = job.train.images, job.train.labels
    released = job.protection(Method()).run(images, labels, out / "protection")
    settings = {"seed": 0, "epochs": job.epochs, "augment": ()}
    rows, pictures = [], {}
    hackers = [hacker(name, job.key.num_classes, **settings) for name in arguments.hackers or ("cnn",)]
    for candidate in (*hackers, authorized(job.key, job.network, **settings)):
        trial = Trial(
            candidate.module, candidate.variables, candidate.trains, candidate.recipe, candidate.sees(released), labels,
            candidate.sees(job.test.images), job.test.labels, candidate.key,
        )  # fmt: skip
        score, variables = trial.run()
        module = candidate.module
        extract = jax.jit(lambda x, v=variables, m=module: m.apply(v, decode(x), method="features"))
        shown = {
            kind: np.asarray(extract(jnp.asarray(candidate.sees(part[:SHOWN]))))
            for kind, part in (("originals", images), ("release", released))
        }
        points = laid_out(np.concatenate(list(shown.values())))
        for kind, features, part in zip(shown, shown.values(), np.split(points, 2), strict=True):
            rows.append(
                {
                    "role": candidate.role, "network": candidate.network, "features_of": kind,
                    "silhouette": float(silhouette_score(features, labels[:SHOWN])), "accuracy": score.last,
                }
            )  # fmt: skip
            pictures[f"{candidate.role} {candidate.network}, {kind}"] = part
    out.mkdir(parents=True, exist_ok=True)
    (out / "summary.json").write_text(json.dumps({"rows": rows}, indent=2) + "\n")
    titles = ("role", "network", "features of", "silhouette of the classes", "accuracy on clean test images")
    print(table_head(*titles))
    for row in rows:
        figures = (figure(row[name]) for name in ("silhouette", "accuracy"))
        print(table_row(row["role"], row["network"], row["features_of"], *figures))
    _draw(out / "figure.png", pictures, labels[:SHOWN], job.train.class_names)
    return 0


def _draw(path, pictures, labels, names):
    figure, axes = plt.subplots(len(pictures) // 2, 2, figsize=(8.5, 1.875 * len(pictures)), layout="constrained")
    for axis, (title, points) in zip(axes.flat, pictures.items(), strict=True):
        for label, name in enumerate(names):
            x, y = points[labels == label].T
            axis.scatter(x, y, s=5, color=plt.get_cmap("tab10")(label % 10), label=name)
        axis.set(title=title, xticks=[], yticks=[])
    axes[0][1].legend(fontsize=8, markerscale=3, loc="upper left", bbox_to_anchor=(1.01, 1))
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    raise SystemExit(main())

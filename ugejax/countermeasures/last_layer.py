"""Deep feature reweighting: a hacker keeps the features that a network learned, and fits its last layer anew.

Source: Kirichenko, Izmailov & Wilson, Last Layer Re-Training is Sufficient for Robustness to Spurious Correlations,
ICLR 2023 (DFR): logistic regression on standardised penultimate features of images without the shortcut, in which all
groups, here classes, weigh the same. Theirs has an L1 penalty, its strength chosen on images held out; ours has
scikit-learn's L2 penalty at its default strength, since a hacker with a few originals has none to hold out.
"""

import numpy as np

ABSENT = -1e4  # logit of a class of which there is no image


def fit_last_layer(features: np.ndarray, labels: np.ndarray, num_classes: int) -> dict[str, np.ndarray]:
    """A last layer that is fitted to convergence, whatever stood there before.

    Args:
        features: float [N, D].
        labels: int [N] in [0, num_classes), of two classes at least.
        num_classes: K.

    Returns:
        {"kernel": float32 [D, K], "bias": float32 [K]}; a class without images is never the answer.
    """
    # Imported late: scikit-learn takes a second to load.
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(features.astype(np.float64))
    fitted = LogisticRegression(class_weight="balanced", max_iter=1000).fit(scaler.transform(features), labels)
    slopes, offsets = fitted.coef_, fitted.intercept_
    if len(fitted.classes_) == 2:  # of two classes scikit-learn gives the second one's log odds alone
        slopes, offsets = np.concatenate([0 * slopes, slopes]), np.concatenate([0 * offsets, offsets])
    mean, scale = np.asarray(scaler.mean_), np.asarray(scaler.scale_)
    slopes = slopes / scale
    kernel, bias = np.zeros((features.shape[1], num_classes)), np.full(num_classes, ABSENT)
    kernel[:, fitted.classes_], bias[fitted.classes_] = slopes.T, offsets - slopes @ mean
    return {"kernel": kernel.astype(np.float32), "bias": bias.astype(np.float32)}

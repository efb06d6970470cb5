"""MI of the paper: the confidence attack of SalUn's evaluation, which never guides unlearning (sec. 4.1)."""

import numpy as np


def confidence(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Probability of the true label, f64[M], from logits f32[M, C] and labels i32[M]."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return np.exp(log_p[np.arange(len(labels)), labels])


def svc_mia(remain: np.ndarray, test: np.ndarray, forget: np.ndarray) -> float:
    """Percentage of the forget samples that the attacker calls non-members: MI, or MIA-efficacy.

    An RBF SVC (C = 3, gamma = 1) learns to tell equally many remaining rows (members) and test rows apart
    by the model's confidence in their true label. It then classifies the forget rows. It attacks the
    unlearned model itself; the ideal is Retrain's value, not 100.

    SalUn takes the first rows of D_r. Here they are evenly spaced, which is equivalent for a shuffled data
    set and covers all classes if rows are sorted by class.

    Args:
      remain: confidence on D_r, f64[R].
      test: confidence on the test set, f64[T].
      forget: confidence on D_f, f64[F].

    Returns:
      Percent.
    """
    from sklearn.svm import SVC

    size = min(len(remain), len(test))
    members, others = (x[np.linspace(0, len(x) - 1, size).round().astype(int)] for x in (remain, test))
    features = np.concatenate([members, others])[:, None]
    attacker = SVC(C=3, gamma="auto", kernel="rbf").fit(features, np.repeat([1, 0], size))
    return float(100 * np.mean(attacker.predict(forget[:, None]) == 0))

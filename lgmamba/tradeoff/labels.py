"""Whether classes can be told apart."""

import numpy as np


def label_problem(labels: np.ndarray, n_classes: int, where: str) -> str | None:
    """What is wrong with the labels of some images; None where every class occurs and there are several.

    Args:
        labels: (N,) integers.
        n_classes: labels are 0 .. n_classes - 1.
        where: whose labels, for the message.
    """
    if n_classes < 2:
        return f"{where}: found 1 class, expected: at least 2 to tell apart"
    missing = np.flatnonzero(np.bincount(labels, minlength=n_classes) == 0)
    if len(missing):
        named = ", ".join(map(str, missing[:8])) + (" ..." if len(missing) > 8 else "")
        return (
            f"{where}: found no image of class {named} ({len(missing)} of {n_classes} classes), expected: labels without gaps, "
            f"0 .. {n_classes - 1}, each in every split"
        )
    return None

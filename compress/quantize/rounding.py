"""Weights rounded so that what they make changes least, not each to its nearest integer.

For weights w (a row), operands x and their second moment H = sum x x^T, the output's squared error
after rounding to q is (w - q)^T H (w - q). Operands are taken one after another, the largest H_ii
first; what rounding operand i loses is handed on to those not rounded yet,

    w_j  <-  w_j - (w_i - q_i) / U_ii * U_ij      for j after i,      U^T U = H^-1, U upper

which is the exact optimum of the rest for a given q_i. After Frantar et al., "Optimal Brain
Compression" (2022) and "GPTQ" (2022); H gets 1 % of its mean diagonal added to it, as there, so
that a few frames do not decide more than they can.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["DAMPING", "round_for_output"]

DAMPING = 0.01
_LEVELS = 127


def round_for_output(
    weights: NDArray[np.float64], moments: NDArray[np.float64], scales: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Integers -127..127 as floats, of weights (groups, outputs, operands).

    `moments`: (groups, operands, operands), symmetric. `scales`: (groups, outputs), above 0.
    Operands that were always 0 are rounded to the nearest.
    """
    diagonal = np.einsum("gkk->gk", moments)
    damped = moments + _damping(diagonal)[:, None, None] * np.eye(moments.shape[1])
    order = np.argsort(-diagonal, axis=1, kind="stable")
    here = np.arange(len(order))[:, None]
    left = weights[here, :, order].transpose(0, 2, 1).copy()
    turned = damped[here[:, :, None], order[:, :, None], order[:, None, :]]
    upper = np.linalg.cholesky(np.linalg.inv(turned)).transpose(0, 2, 1)
    found = np.empty_like(left)
    for i in range(left.shape[2]):
        found[:, :, i] = np.clip(np.rint(left[:, :, i] / scales), -_LEVELS, _LEVELS)
        lost = (left[:, :, i] - found[:, :, i] * scales) / upper[:, i, i, None]
        left[:, :, i + 1 :] -= lost[:, :, None] * upper[:, i, None, i + 1 :]
    back = np.argsort(order, axis=1)
    return found[here, :, back].transpose(0, 2, 1)


def _damping(diagonal: NDArray[np.float64]) -> NDArray[np.float64]:
    mean = diagonal.mean(axis=1)
    return np.where(mean > 0, DAMPING * mean, 1.0)

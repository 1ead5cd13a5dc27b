"""Labels: numbers that stand for channels, which of them go together, and which may not go.

A label from `fresh` is one channel. `tie` makes two labels one unit: cut together or not at all.
`pin` keeps a unit whole with a reason; the first reason stays. A negative label, from `fixed`,
stands for something that is no channel at all (the picture, a constant, what an attention block
computes); whatever is tied to it is pinned for its reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Labels"]


class Labels:
    """Disjoint sets of labels; the smallest of a set is its root.

    >>> labels = Labels()
    >>> a, b = labels.fresh(3), labels.fresh(3)
    >>> labels.tie(a, b[::-1])
    >>> labels.roots(b).tolist()
    [2, 1, 0]
    >>> labels.pin(b[:1], "output of the network")
    >>> [labels.refusal(label) for label in a.tolist()]
    [None, None, 'output of the network']
    """

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._reasons: dict[int, str] = {}
        self._fixed: list[str] = []

    def fresh(self, count: int) -> NDArray[np.int64]:
        """`count` new channels, none tied."""
        import numpy as np

        first = len(self._parent)
        self._parent += range(first, first + count)
        return np.arange(first, first + count, dtype=np.int64)

    def fixed(self, reason: str) -> int:
        """The negative label of something that is no channel."""
        if reason not in self._fixed:
            self._fixed.append(reason)
        return -1 - self._fixed.index(reason)

    def root(self, label: int) -> int:
        """The label that stands for the whole set."""
        if label < 0:
            return label
        while self._parent[label] != label:
            self._parent[label] = self._parent[self._parent[label]]
            label = self._parent[label]
        return label

    def roots(self, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        """`root` of each, in the same shape."""
        import numpy as np

        distinct, where = np.unique(labels, return_inverse=True)
        found = np.array([self.root(int(label)) for label in distinct], np.int64)
        return found[where].reshape(labels.shape)

    def tie(self, a: NDArray[np.int64], b: NDArray[np.int64]) -> None:
        """Make each label of `a` one unit with its neighbour in `b`; they broadcast."""
        import numpy as np

        pairs = np.stack([side.reshape(-1) for side in np.broadcast_arrays(a, b)])
        for left, right in np.unique(pairs, axis=1).T.tolist():
            self._tie(left, right)

    def pin(self, labels: NDArray[np.int64], reason: str) -> None:
        """Keep these channels, and all that go with them."""
        import numpy as np

        for label in np.unique(labels).tolist():
            if label >= 0:
                self._reasons.setdefault(self.root(label), reason)

    def refusal(self, label: int) -> str | None:
        """Why this channel may not be cut; None when it may."""
        if label < 0:
            return self._fixed[-1 - label]
        return self._reasons.get(self.root(label))

    def _tie(self, left: int, right: int) -> None:
        if left < 0 or right < 0:
            for one, other in ((left, right), (right, left)):
                if one >= 0:
                    self._reasons.setdefault(self.root(one), self._fixed[-1 - other])
            return
        low, high = sorted((self.root(left), self.root(right)))
        if low == high:
            return
        self._parent[high] = low
        reason = self._reasons.pop(high, None)
        if reason is not None:
            self._reasons.setdefault(low, reason)

"""The journal of a search: every finished trial, in order, in Optuna's file storage.

One line is appended for each trial, so what a kill can cost is the generation under way. The file
can be opened with Optuna's own tools; a trial's values are predicted milliseconds and accuracy.

SearchError   the file was damaged, or written by another version
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import msgspec

from compress.search.candidate import SearchError
from compress.search.study import Trial
from devices.errors import MissingExtraError

__all__ = ["Journal"]

_TRIAL = msgspec.json.Decoder(Trial)


class Journal:
    """The trials of one study in a file; other studies may lie in the same file."""

    def __init__(self, path: Path, study: str) -> None:
        """Open or make it. Raises SearchError or MissingExtraError."""
        self._study = _opened(path, study)
        try:
            stored = [found.user_attrs for found in self._study.get_trials(deepcopy=False)]
            self._trials = tuple(_TRIAL.decode(attributes["trial"]) for attributes in stored)
        except (KeyError, msgspec.DecodeError) as error:
            raise _damaged(path, str(error)) from error
        self._elapsed_s = float(stored[-1]["elapsed_s"]) if stored else 0.0
        if [trial.number for trial in self._trials] != list(range(len(self._trials))):
            raise _damaged(path, "trials out of order")

    @property
    def trials(self) -> tuple[Trial, ...]:
        """What was tried, in order."""
        return self._trials

    @property
    def elapsed_s(self) -> float:
        """Seconds that all sittings took up to the last trial."""
        return self._elapsed_s

    def append(self, trial: Trial, *, elapsed_s: float) -> None:
        """Add a trial; it is in the file when this returns."""
        import optuna

        score, latency_ms = trial.best.score, trial.best.latency_ms
        done = score is not None and latency_ms is not None
        state = optuna.trial.TrialState
        self._study.add_trial(
            optuna.trial.create_trial(
                state=state.COMPLETE if done else state.FAIL,
                values=[latency_ms, score] if done else None,
                user_attrs={
                    "trial": msgspec.json.encode(trial).decode(),
                    "elapsed_s": elapsed_s,
                    "candidate": str(trial.candidate),
                },
            )
        )
        self._trials = (*self._trials, trial)
        self._elapsed_s = elapsed_s


def _opened(path: Path, study: str) -> Any:  # noqa: ANN401 - optuna.Study, imported here
    try:
        import optuna
    except ImportError as error:
        raise MissingExtraError("optuna", extra="compress", needed_for="--search") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    lock = optuna.storages.journal.JournalFileOpenLock(str(path))
    for left in path.parent.glob(f"{path.name}.lock*"):  # of a killed run: the folder is ours
        with contextlib.suppress(FileNotFoundError):
            left.unlink()
    try:
        backend = optuna.storages.journal.JournalFileBackend(str(path), lock_obj=lock)
        return optuna.create_study(
            storage=optuna.storages.JournalStorage(backend),
            study_name=study,
            directions=["minimize", "maximize"],
            load_if_exists=True,
        )
    except (ValueError, KeyError, OSError) as error:
        raise _damaged(path, str(error) or type(error).__name__) from error


def _damaged(path: Path, found: str) -> SearchError:
    return SearchError(
        str(path),
        found=found,
        expected="the trials of an earlier search",
        cure="remove this file; finished passes are kept, so trials come back fast",
    )

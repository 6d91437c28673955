"""Every error a user can meet; each says what was given, what is allowed, what to do next.

DefectopsError                       exit
├── InputRefused                      2   a file, label, setting or argument cannot be used
│   ├── MicrographRefused             2   the picture itself
│   ├── CalibrationRefused            2   its pixel size or foil thickness
│   ├── LabelRefused                  2   a label, or the pairing of images and labels
│   ├── ManifestRefused               2   the table of images
│   ├── ArchiveRefused                2   a zip or tar file
│   ├── ModelRefused                  2   weights or a bundle
│   └── SettingsRefused               2   params.yaml or another settings file
├── Conflict                          3   lost a race, or a lock is held by somebody who is named
│   └── LeaseLost                     3   a paused worker's trial went to another one
├── EnvironmentFault                  4   disk full, read-only, database or server away
├── IntegrityFault                    5   a digest does not match, a journal is broken
├── GateFailed                        6   floors missed, leak found
├── GateInconclusive                  7   the evidence does not decide
└── TrainingDiverged                  1   a loss or weight that is not finite
"""

from __future__ import annotations


class DefectopsError(Exception):
    """Base of all errors shown to a user as one line.

    Parameters
    ----------
    subject : str
        What the error is about: usually a file name. Control characters are escaped, so that
        a name with a line feed stays on one line.
    code : str
        Reason code, for example ``E_TRUNCATED``; see ``docs/reference/error-codes.md``.
    message : str
        What was given, what is allowed, what to do next.
    """

    exit_code = 1

    def __init__(self, subject: object, code: str, message: str) -> None:
        self.subject = one_line(str(subject))
        self.code = code
        self.message = one_line(message)
        super().__init__(f"{self.subject}: {self.code}: {self.message}")

    def __reduce__(self) -> tuple[type[DefectopsError], tuple[str, str, str]]:
        return type(self), (self.subject, self.code, self.message)


class InputRefused(DefectopsError):
    """Something given cannot be used as it is."""

    exit_code = 2


class MicrographRefused(InputRefused):
    """A picture cannot be read as a micrograph."""


class CalibrationRefused(InputRefused):
    """A pixel size or a foil thickness is missing, impossible or contradictory."""


class LabelRefused(InputRefused):
    """A label cannot be used, or labels and images do not pair up."""


class ManifestRefused(InputRefused):
    """The table of images cannot be used."""


class ArchiveRefused(InputRefused):
    """An archive is damaged, too large or reaches outside its folder."""


class ModelRefused(InputRefused):
    """Weights or a bundle cannot be loaded safely."""


class SettingsRefused(InputRefused):
    """A settings file or section is wrong."""


class Conflict(DefectopsError):
    """Somebody else was faster, or holds the lock."""

    exit_code = 3


class LeaseLost(Conflict):
    """A worker was silent for too long, and another one has its trial."""


class EnvironmentFault(DefectopsError):
    """The machine around us fails: disk, permissions, database, server."""

    exit_code = 4


class IntegrityFault(DefectopsError):
    """What is stored is not what was recorded."""

    exit_code = 5


class GateFailed(DefectopsError):
    """A model misses what is asked of it."""

    exit_code = 6


class GateInconclusive(DefectopsError):
    """The evidence is too weak to decide."""

    exit_code = 7


class TrainingDiverged(DefectopsError):
    """The loss or a weight is no longer finite."""


def one_line(text: str) -> str:
    r"""Return `text` with control characters escaped, so that it prints on exactly one line.

    >>> one_line("a\nb")
    'a\\nb'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)

"""The tools that the embedded model learns from: sixty by hand, and as many more as one likes by composition.

To add a tool, write a `C(...)` paragraph into the table of its theme (`home`, `office`, …), or into `unseen` to keep
it out of training; `composed` makes tools out of verbs, things and parameters. Hand-written concepts teach how people
talk, composed ones teach to read. `concepts` says what the columns mean, and `check` and the tests hold a table to it.

Standard library only.
"""

from __future__ import annotations

from edge.train.toolset.composed import COMPOSED, THINGS, composed, composed_thing, is_unseen, relatives
from edge.train.toolset.concepts import Concept, Instance, Json, Param, check_slots, instantiate
from edge.train.toolset.home import HOME
from edge.train.toolset.info import INFO
from edge.train.toolset.mobile import MOBILE
from edge.train.toolset.office import OFFICE
from edge.train.toolset.people import PEOPLE
from edge.train.toolset.phone import PHONE
from edge.train.toolset.planning import PLANNING
from edge.train.toolset.travel import TRAVEL
from edge.train.toolset.unseen import UNSEEN

__all__ = [
    "BY_HAND",
    "COMPOSED",
    "MOBILE",
    "MORE",
    "THINGS",
    "Concept",
    "Instance",
    "Json",
    "Param",
    "check",
    "composed",
    "composed_thing",
    "instantiate",
    "is_unseen",
    "relatives",
]

MORE = [*PLANNING, *PEOPLE, *INFO, *HOME, *PHONE, *TRAVEL, *OFFICE, *UNSEEN]
BY_HAND = MOBILE + MORE


def check() -> None:
    """Every key is there once, and every slot of every pattern has its parameter. Called by the tests."""
    keys = [concept.key for concept in BY_HAND]
    assert len(keys) == len(set(keys)), keys
    for concept in BY_HAND:
        check_slots(concept)
        assert set(concept.near) <= set(keys), concept.key

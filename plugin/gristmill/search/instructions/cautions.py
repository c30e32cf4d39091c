"""What is said once about instructions: where none can work, and where a retired one is still asked for."""

from __future__ import annotations

import logging

from gristmill.search.instructions.resolving import Applied
from gristmill_schemas import VectorSpace

log = logging.getLogger(__name__)


class Cautions:
    """Shared by all threads of a client; what two of them see at the same moment may be said twice."""

    def __init__(self) -> None:
        self._said: set[tuple[str, ...]] = set()

    def tell(self, where: str, space: VectorSpace, applied: Applied, template: str) -> None:
        """Say what there is to say.

        Args:
            where: the collection or the model, for people.
            space: whose model has the instruction before its text.
            applied: the instruction.
            template: what joins it with the text.
        """
        if applied.text is None:
            return
        if "{instruction}" not in template:
            self._once(
                (where, space.fingerprint),
                f"{where}: the templates of {space.model} have no place for an instruction: it is left out, and changes "
                "nothing",
            )
        elif not space.instruction_aware:
            self._once(
                (where, space.fingerprint),
                f"{where}: {space.model} was not trained to follow instructions: one is put before the text all the same, "
                "and may make hits worse; leave it out, or measure that it helps",
            )
        if applied.retired:
            self._once((where, str(applied.label)), f"{where}: instruction {applied.label} is retired")

    def _once(self, key: tuple[str, ...], sentence: str) -> None:
        if key not in self._said:
            self._said.add(key)
            log.warning(sentence)

"""What a search is for: free text, the name of a registered instruction, or a preset."""

from gristmill.search.instructions.cautions import Cautions
from gristmill.search.instructions.group import InstructionGroup
from gristmill.search.instructions.presets import PRESETS, Preset
from gristmill.search.instructions.resolving import Applied, resolve_instruction

__all__ = ["PRESETS", "Applied", "Cautions", "InstructionGroup", "Preset", "resolve_instruction"]

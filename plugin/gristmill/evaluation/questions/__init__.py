"""What an evaluation is given in files: labelled questions, the documents beside them, candidate instructions."""

from gristmill.evaluation.questions.candidates import preset_pair, read_candidates
from gristmill.evaluation.questions.reading import documents_beside, read_questions

__all__ = ["documents_beside", "preset_pair", "read_candidates", "read_questions"]

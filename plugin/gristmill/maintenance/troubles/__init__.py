"""What is wrong with a mill, and what to type: pure functions from what was seen to sentences and commands."""

from gristmill.maintenance.troubles.activity import Activity, activity_between
from gristmill.maintenance.troubles.judging import judge
from gristmill.maintenance.troubles.observed import Memory, Observed
from gristmill.maintenance.troubles.trouble import Kind, Severity, Trouble

__all__ = [
    "Activity",
    "Kind",
    "Memory",
    "Observed",
    "Severity",
    "Trouble",
    "activity_between",
    "judge",
]

"""Plain mappings into Qdrant filters: `{"lang": "zh", "year": {"gte": 2020}, "tag": ["a", "b"]}`.

    filter     {key: condition, …}  all of these · a condition or Filter of qdrant_client.models
               with "all": [filter, …] · "any": [filter, …] · "not": filter or [filter, …]  among the keys
    condition  value · [value, …] any of these · None nothing there · {operator: …, …} all of these
               with the same "all": [condition, …] · "any": [condition, …] · "not": condition  among the operators

Values are converted as those of documents are (`gristmill_schemas.plain`), so what was stored is found by the same value.
"""

from gristmill.search.filters.grammar import compile_filter, condition
from gristmill.search.filters.types import Conditions, Operators, Where

__all__ = ["Conditions", "Operators", "Where", "compile_filter", "condition"]

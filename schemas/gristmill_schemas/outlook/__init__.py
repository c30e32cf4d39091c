"""What is to come: of documents that nobody has handed over yet."""

from gristmill_schemas.outlook.estimate import Estimate, RateSource, StoreBytes

__all__ = ["Estimate", "RateSource", "StoreBytes"]

"""Numbers out of a column. polars types what a column reduces to as any value it can hold; here it is a number, or an error."""

import polars as pl


def least(values: pl.Series) -> float:
    """The smallest number of a column that has one."""
    return _number(values.min(), values)


def greatest(values: pl.Series) -> float:
    """The largest number of a column that has one."""
    return _number(values.max(), values)


def mean(values: pl.Series) -> float:
    """The mean of a column that has a number."""
    return _number(values.mean(), values)


def quantile(values: pl.Series, q: float) -> float:
    """The nearest value at quantile q, from 0 to 1."""
    return _number(values.quantile(q), values)


def _number(found: object, values: pl.Series) -> float:
    if not isinstance(found, int | float):
        raise ValueError(f"column {values.name!r}: found {found!r}, expected a number among {len(values)} values")
    return found

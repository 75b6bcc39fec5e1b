"""CSV that a spreadsheet shows as text: no name is run as a formula."""

import pandas as pd

FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_text(frame: pd.DataFrame) -> str:
    """Return the table as CSV, with a quote before any name that a spreadsheet would run as a formula.

    Names may come from downloaded folders. Parquet files keep them unchanged.
    """
    shown = frame.copy()
    shown.columns = [_shown(name) for name in frame.columns]
    for i, dtype in enumerate(frame.dtypes):
        if not pd.api.types.is_numeric_dtype(dtype):
            shown.isetitem(i, [_shown(value) for value in frame.iloc[:, i]])
    return shown.to_csv(index=False, lineterminator="\n")


def _shown(value: object) -> object:
    if not (isinstance(value, str) and value.startswith(FORMULA)):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value

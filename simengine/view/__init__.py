"""Figures, pages and windows. Takes arrays."""

from typing import TYPE_CHECKING

from simengine.exports import on_use

if TYPE_CHECKING:
    from simengine.view.figures import curves, fields, label, slices
    from simengine.view.report import Movie, Picture, ReportTable, write_report
    from simengine.view.sheets import comparison, contact_sheet
else:  # a checker that sees __getattr__ takes any name
    __getattr__, __dir__ = on_use(
        __name__,
        {
            **dict.fromkeys(("curves", "fields", "label", "slices"), "simengine.view.figures"),
            **dict.fromkeys(("Movie", "Picture", "ReportTable", "write_report"), "simengine.view.report"),
            **dict.fromkeys(("comparison", "contact_sheet"), "simengine.view.sheets"),
        },
    )

__all__ = [
    "Movie",
    "Picture",
    "ReportTable",
    "comparison",
    "contact_sheet",
    "curves",
    "fields",
    "label",
    "slices",
    "write_report",
]

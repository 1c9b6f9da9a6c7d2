"""Records as one self-contained page.

:func:`write_page` turns a :class:`~polytask.records.StudyRecord`, a :class:`~polytask.records.RunRecord`, or several of
either, into one HTML file that opens anywhere, offline: text, tables, and charts.

Note:
    The charts are plotly's: axes, hover, zoom and heat maps are work that a well-kept library has done better than a
    page of our own SVG would, and plotly cannot draw a static image without a browser of its own, so that its script
    is in the page (4.7 MB, once, whatever the number of charts). Figures are plain data in plotly's JSON form; the
    script is taken from the installed plotly, so that both fit. What must be read without a script, in a mail preview
    or on paper, is text and tables: a page without charts holds every finding, is about 100 KB, and is written where
    plotly is missing (with a note) or with ``charts=False``. Templates are jinja2's, with autoescape: torch brings it.
    A content security policy with the hashes of the page's own scripts forbids every request and any other script.
"""

from polytask.report.page import load_record, write_page

__all__ = ["load_record", "write_page"]

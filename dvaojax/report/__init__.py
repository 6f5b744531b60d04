"""One HTML file about runs: configuration, curves, evaluations, completions, timing.

The file is self-contained: it includes style, script and data, and makes no network request.
Figures are SVG, drawn here. The script adds values at the pointer and the search for completions;
without scripts the page still shows everything else.
"""

from dvaojax.report.writing import write_report as write_report

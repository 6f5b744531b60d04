"""One HTML file that shows what runs did: configuration, curves, evaluations, completions, timing.

The file stands alone: style, script and data are in it, and no request leaves it. Pictures are SVG,
drawn here; the script adds values under the pointer and the search through completions, and a page
without scripts still shows everything but those.
"""

from dvaojax.report.writing import write_report as write_report

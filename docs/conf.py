"""Settings of Sphinx: `make docs` builds the site with every warning as an error."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from transferbench import __version__

project = "transferbench"
author = "The transferbench authors"
copyright = "2026, the transferbench authors. License: Apache-2.0"
version = release = __version__

extensions = ["myst_parser", "generated"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "_ext", "img/*.md"]
nitpicky = True

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 4  # headings get the anchors that code hosts give them

html_theme = "pydata_sphinx_theme"
html_title = "transferbench"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "navigation_with_keys": False,
    "show_prev_next": True,
    "show_nav_level": 1,
    "navigation_depth": 3,
    "header_links_before_dropdown": 6,
    "navbar_end": ["theme-switcher"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": {  # none on the pages of results, whose tables are wide
        **{f"{part}/*": ["page-toc"] for part in ("tutorial", "how-to", "reference", "explanation")},
        "results/*": [],
        "dependencies": [],
        "index": [],
    },
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}

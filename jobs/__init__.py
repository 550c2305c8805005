"""Thin Ray entry points: parse, plan, dispatch, report. What is computed stands in gc_core, which knows no Ray."""

import sys

if sys.argv[:1] == ["-m"]:  # as it reads while `python -m jobs.X` starts; imports take seconds, and Ctrl-C may come
    from jobs.common import home, interrupt

    interrupt.end_quietly()
    home.end_without()

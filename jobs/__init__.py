"""Thin Ray entry points: parse, plan, dispatch, report. What is computed stands in gc_core, which knows no Ray."""

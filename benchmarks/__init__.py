"""Benchmarks: the member, the composer and others of their trade, measured side by side.

`python3 run.py bench` runs them; docs/performance.md says what is measured and
how. Flat, one idea a module: `processes` and `measure` know nothing of what is
measured, `contenders` starts who takes part, and each benchmark is a module of
its own. peer_*.py are programs: they run in processes of their own.
"""

"""Fuzzing: `python3 run.py fuzz [SECONDS]`.

Each target takes bytes and returns a word for what came out: by which lines
of the code a documented error came about, or the shape of the result. Whatever
else it raises is a finding. Inputs are made by the target's own generator and by mutation of the
corpus (corpus/TARGET/). An input with a new outcome joins the corpus of the
run: guidance by outcome, not by coverage. sys.monitoring would be cheap, but
only Python 3.12 has it; sys.settrace slows a parser down many times; and here
nearly every branch of a parser ends in an error with a line of its own.

All chance comes from one seed, so the same seed gives the same inputs.
"""

"""Modules that are put into a program from outside: a folder of PYTHONPATH, with a sitecustomize in it."""

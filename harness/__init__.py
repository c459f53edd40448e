"""The engine: command line, configuration, plan, stages and evaluation."""

__version__ = "0.1.0"

"""Plots: data first, drawing second."""

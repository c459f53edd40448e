"""Routed linear layers and their parts."""

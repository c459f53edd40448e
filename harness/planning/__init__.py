"""From options and presets to cells: configuration, choices, plans, what is left to do and what it will cost."""

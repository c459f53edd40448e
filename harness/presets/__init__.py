"""Presets: budgets and settings as YAML, one file each; `extends` names the parent."""

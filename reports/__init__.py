"""From records to tables, plots and pages. Never imports torch."""

"""Cards: one Markdown file with YAML front matter for each registered name."""

"""Where rows come from: bundled assets, a directory, the hub."""
